//! Makes the members of a run. One that EMR or the table would not take has
//! already failed when the run begins, and the rest of its batch goes ahead.

use super::{Member, Outcome, Step};
use crate::core::catalog::{Catalog, StepSpec, Task};
use crate::core::class::FailureClass;
use crate::core::command::{Command, CommandError};
use crate::core::render::Values;
use crate::core::task::{Element, TaskPartition};

/// DynamoDB takes 400 KB for a run; its tries and notices need some of it.
const MEMBER_BYTES_MAX: usize = 300_000;

impl Member {
    pub(super) fn new(catalog: &Catalog, task: &Task, item: &TaskPartition, run: &str) -> Self {
        let values = values(catalog, task, item, run);
        let step = |spec: &StepSpec| -> Result<Step, CommandError> {
            let command = Command::new(spec, &values)?;
            Ok(Step { name: spec.name.clone(), command, retry: spec.retry })
        };
        let steps: Result<Vec<_>, _> = task.steps.iter().map(step).collect();
        let (steps, outcome) = match steps.map_err(|error| error.to_string()).and_then(stored) {
            Ok(steps) => (steps, None),
            Err(reason) => {
                let class = Some(FailureClass::Validation);
                (Vec::new(), Some(Outcome::Failed { reason, class }))
            }
        };
        Self {
            key: item.key.clone(),
            steps,
            outputs: catalog.outputs(task, &item.key.partition),
            loads: task.load.is_some(),
            attempt_timeout: task.attempt_timeout,
            outcome,
            round: item.round.clone(),
            cancel: None,
            owed: false,
        }
    }
}

/// The steps of one member, unless they alone would not fit into its run.
fn stored(steps: Vec<Step>) -> Result<Vec<Step>, String> {
    match serde_json::to_vec(&steps) {
        Ok(bytes) if bytes.len() <= MEMBER_BYTES_MAX => Ok(steps),
        Ok(bytes) => Err(format!(
            "its steps take {} KB, but a run has room for {} KB: use fewer or shorter steps",
            bytes.len() / 1000,
            MEMBER_BYTES_MAX / 1000
        )),
        Err(error) => Err(format!("its steps cannot be stored: {error}")),
    }
}

/// What the placeholders of a task's steps stand for in one partition.
fn values(catalog: &Catalog, task: &Task, item: &TaskPartition, run: &str) -> Values {
    let partition = item.key.partition;
    let inputs = task.inputs.iter().filter_map(|input| {
        let location = &catalog.datasets.get(&input.dataset)?.location;
        let with_data = catalog
            .window(input, &partition)
            .filter(|read| item.has_data(&Element::data(&input.dataset, *read)));
        let uris: Vec<_> = with_data.map(|read| location.uri_of(&read)).collect();
        Some((input.dataset.clone(), uris.join(",")))
    });
    Values {
        deployment: catalog.deployment.clone(),
        task: task.name.clone(),
        partition,
        run: run.to_owned(),
        inputs: inputs.collect(),
        outputs: catalog.outputs(task, &partition),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::core::catalog::testing::profile;
    use crate::core::catalog::{Completeness, Dataset, Input, Need, Retry, StepWork, WhenEmpty};
    use crate::core::partition::{Grain, Partition};
    use crate::core::render::Text;
    use crate::core::run::{Run, RunState};
    use crate::core::task::{Element, Receipt, TaskChange, TaskKey, TaskState};
    use crate::core::template::Template;

    fn task(name: &str, steps: usize, argument: &str) -> Task {
        let retry = Retry { attempts: 0, delay: SignedDuration::ZERO, backoff_rate: 1.0 };
        let step = |number| StepSpec {
            name: format!("s{number}"),
            work: StepWork::Command { args: vec![Text::parse(argument).unwrap()] },
            retry,
        };
        let day = SignedDuration::from_hours(24);
        Task {
            name: name.into(),
            profile: "p".into(),
            grain: Grain::Day,
            schedule: None,
            inputs: vec![Input {
                dataset: "d".into(),
                from: SignedDuration::ZERO,
                to: day,
                need: Need::All,
            }],
            need: Need::All,
            wait: None,
            time_limits: Default::default(),
            outputs: vec![],
            when_empty: WhenEmpty::Run,
            late_data: Default::default(),
            attempt_timeout: None,
            steps: (0..steps).map(step).collect(),
            load: None,
            max_active: None,
        }
    }

    fn made(tasks: Vec<Task>) -> (Run, Vec<TaskChange>) {
        let dataset = Dataset {
            name: "d".into(),
            location: Template::parse("s3://b/in/{yyyy}-{MM}-{dd}/*").unwrap(),
            completeness: Completeness::Object,
            list: true,
        };
        let catalog = Catalog::new("test".into(), vec![dataset], vec![], tasks);
        let partition: Partition = "2013-01-01".parse().unwrap();
        let items: Vec<_> = catalog
            .tasks
            .keys()
            .map(|name| {
                let mut item = TaskPartition::new(TaskKey::new(name, partition));
                // What an object's identity may hold at worst.
                let receipt = Receipt::Object("$(reboot); ' \" `x`".into());
                item.received = BTreeMap::from([(Element::data("d", partition), receipt)]);
                item
            })
            .collect();
        let batch: Vec<_> =
            items.iter().map(|item| (&catalog.tasks[&item.key.task], item)).collect();
        Run::new(&catalog, &profile("p"), &batch, "R", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_emr_would_refuse_fails_alone() {
        let long = "x".repeat(11_000);
        let (run, changes) =
            made(vec![task("a", 1, "true"), task("b", 1, &long), task("c", 40, &long[..9_000])]);
        let ends: Vec<_> = changes.iter().map(|change| change.to).collect();
        assert_eq!(ends, [TaskState::Running, TaskState::Failed, TaskState::Failed]);
        let reason = |index: usize| changes[index].reason.clone().unwrap();
        assert!(reason(1).contains("step s0 has 11018 characters"), "{}", reason(1));
        assert!(reason(2).contains("its steps take 36"), "{}", reason(2));
        assert_eq!((run.state, run.attempts.len()), (RunState::Launching, 1));
        let open: Vec<_> = run.members.iter().map(|member| member.outcome.is_none()).collect();
        assert_eq!(open, [true, false, false]);
    }

    #[test]
    fn a_run_of_nothing_but_refused_steps_has_no_cluster() {
        let (run, changes) = made(vec![task("b", 1, &"x".repeat(11_000))]);
        assert_eq!((run.state, run.attempts.len()), (RunState::Failed, 0));
        assert_eq!(changes[0].to, TaskState::Failed);
        let statuses: Vec<_> = run.notices.iter().map(|notice| notice.status.as_str()).collect();
        assert_eq!(statuses, ["run-failed"]);
    }

    /// Arguments hold locations of partitions, never what an object is called.
    #[test]
    fn nothing_of_an_object_reaches_an_argument() {
        let (run, _) = made(vec![task("a", 1, "{input.d} {task} {partition} {run}")]);
        let argument = run.members[0].steps[0].command.args[0].of_attempt(1);
        assert_eq!(argument, "s3://b/in/2013-01-01/ a 2013-01-01 R");
    }

    #[test]
    fn a_run_of_version_0_1_is_read() {
        let old = r#"{"id": "R", "profile": "p", "created": "2013-01-01T06:05:00Z",
            "state": "running", "cluster": {
                "release_label": "emr-7.13.0", "applications": ["Spark"], "service_role": "s",
                "instance_profile": "i", "log_uri": null, "visible_to_all_users": true,
                "subnets": [], "fleets": [{"role": "primary", "on_demand": 1, "spot": 0,
                    "instance_types": ["m5.xlarge"]}],
                "configurations": {"spark-defaults": {"k": "v"}}, "bootstrap_actions": [],
                "tags": {}, "idle_timeout": "PT1H"},
            "limits": {"max_attempts": 2, "lifetime": "PT6H", "poll_interval": "PT30S",
                "send_within": "PT20S", "list_lag": "PT1M"},
            "members": [{"key": {"task": "etl", "partition": "2013-01-01T05"},
                "steps": [{"name": "s", "jar": "command-runner.jar", "args": ["echo", "{attempt}"],
                    "retry": {"attempts": 3, "delay": "PT1S", "backoff_rate": 2.0}}],
                "outputs": {"out": "s3://b/out/"}, "outcome": null}],
            "attempts": [{"number": 1, "opened": "2013-01-01T06:05:00Z",
                "expires": "2013-01-01T12:05:00Z",
                "launch": {"send_by": "2013-01-01T06:05:20Z", "send_at": null, "throttled": 0},
                "cluster": "j-1", "cluster_state": "running",
                "tries": [{"member": 0, "step": 0, "name": "etl/2013-01-01T05/s/1", "id": "s-1",
                    "state": "running", "ended": null, "failure": null}],
                "adding": null}],
            "notices": []}"#;
        let run: Run = serde_json::from_str(old).unwrap();
        let command = &run.members[0].steps[0].command;
        let words: Vec<_> = command.args.iter().map(|arg| arg.of_attempt(7)).collect();
        // What was a text then has no placeholder now.
        assert_eq!(words, ["echo", "{attempt}"]);
        let stored = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&stored).unwrap(), run);
    }
}
