//! Ready partitions share a cluster: by number, or by time.

use crate::world::{World, daily_file, daily_task};

fn profile(batch_size: u32, max_wait: &str) -> String {
    format!(
        "[profiles.shared]\nbatch-size = {batch_size}\nmax-wait = \"{max_wait}\"\n\
         guard = false\nrelease-label = \"emr-7.13.0\"\nservice-role = \"service\"\ninstance-profile = \"ec2\"\n\
         primary = {{ instance-types = [\"m5.xlarge\"], on-demand = 1 }}\n"
    )
}

fn shared_task(name: &str, input: &str) -> String {
    daily_task(name, &[input], "true").replace("profile = \"p\"", "profile = \"shared\"")
}

#[tokio::test]
async fn a_batch_is_filled_by_size() {
    let tasks = profile(3, "24h")
        + &daily_file("a")
        + &["x", "y", "z"].map(|name| shared_task(name, "a")).concat();
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    for name in ["x", "y", "z"] {
        world.mail(&format!("{name}/2013-01-01/succeeded")).await;
    }
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn a_batch_that_stays_small_is_swept_up_by_its_timer() {
    let tasks = profile(3, "2s") + &daily_file("a") + &shared_task("x", "a");
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("x/2013-01-01/ready").await;
    assert_eq!(world.calls("elasticmapreduce", "RunJobFlow"), 0);
    world.mail("x/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn ready_partitions_survive_a_crash() {
    let tasks = profile(2, "24h")
        + &daily_file("a")
        + &daily_file("b")
        + &shared_task("x", "a")
        + &shared_task("y", "b");
    let mut world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("x/2013-01-01/ready").await;
    world.kill().await;
    world.start().await;
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("x/2013-01-01/succeeded").await;
    world.mail("y/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// A task with so many steps of so many characters.
fn large_task(name: &str, steps: usize, chars: usize) -> String {
    let ballast = "x".repeat(chars);
    let step = |number: usize| {
        format!(
            "[[tasks.{name}.steps]]\nname = \"more-{number}\"\nkind = \"command\"\n\
             args = [\"true\", \"{ballast}\"]\n"
        )
    };
    shared_task(name, "a") + &(0..steps).map(step).collect::<String>()
}

#[tokio::test]
async fn a_batch_too_large_for_one_run_is_divided() {
    // Two such tasks fit into DynamoDB's 400 KB, three do not.
    let tasks = ["x", "y", "z"].map(|name| large_task(name, 16, 9_000)).concat();
    let world = World::new(&(profile(3, "24h") + &daily_file("a") + &tasks)).await;
    world.put("a/2013-01-01.csv", "1").await;
    for name in ["x", "y", "z"] {
        world.mail(&format!("{name}/2013-01-01/succeeded")).await;
    }
    assert!(world.clusters_ended().await >= 2);
}

#[tokio::test]
async fn a_batch_that_would_outgrow_the_table_while_it_runs_is_divided() {
    // Two such tasks fit into DynamoDB's 400 KB, but not with their tries.
    let tasks = ["x", "y"].map(|name| large_task(name, 20, 9_880)).concat();
    let world = World::new(&(profile(2, "24h") + &daily_file("a") + &tasks)).await;
    world.put("a/2013-01-01.csv", "1").await;
    for name in ["x", "y"] {
        world.mail(&format!("{name}/2013-01-01/succeeded")).await;
    }
    assert_eq!(world.clusters_ended().await, 2);
}
