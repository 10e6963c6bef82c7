//! `inputs`: which objects, in which versions, a run took as the inputs of a task
//! partition. Not for what a partition still waits for (see `why`).

use clap::Args;
use serde::Serialize;

use super::output::{Output, plain};
use super::{AwsArgs, Failure, find_partition, find_task, runs};
use crate::aws::store::{Input, Store};
use crate::core::arrival::{Arrival, Source};
use crate::core::partition::Partition;
use crate::core::task::{Element, Receipt};

/// Show which objects, in which versions, a task's partition was run with
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate inputs hourly-etl 2013-01-01T05 --config prod.toml\n  \
    sluicegate inputs hourly-etl 2013-01-01T05 --config prod.toml --json | jq -r '.inputs[].objects[].object'")]
pub struct InputsArgs {
    task: String,
    /// An hour such as 2013-01-01T05 or a day such as 2013-01-01, UTC
    partition: String,
    /// Of this run, by its id or the beginning of it; left out, of the partition's last one
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    #[command(flatten)]
    aws: AwsArgs,
}

#[derive(Debug, Serialize)]
struct Inputs {
    task: String,
    partition: Partition,
    run: String,
    inputs: Vec<ShownInput>,
}

#[derive(Debug, Serialize)]
struct ShownInput {
    dataset: String,
    partition: Partition,
    /// `s3://…`: the object, or what the keys of many begin with.
    place: String,
    /// As it came in: `closed:26`, `object:ETAG`, `run:ID`.
    received: String,
    objects: Vec<ShownObject>,
}

#[derive(Debug, Serialize)]
struct ShownObject {
    /// `s3://…`
    object: String,
    /// Version id, or ETag where the bucket keeps no versions.
    version: String,
    bytes: Option<u64>,
    /// As a listing showed it, not as a notification told.
    listed: bool,
}

pub async fn inputs(args: &InputsArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let task = find_task(&session.config, &args.task)?;
    let key = find_partition(task, &args.partition)?;
    let run = match &args.run {
        Some(run) => {
            let beginning = runs::id_beginning(run)?;
            match runs::find(&session, beginning.clone()).await {
                Ok(run) if run.members.iter().any(|member| member.key == key) => run.id,
                Ok(run) => {
                    return Err(Failure::Failed(format!(
                        "{key} was not in run {}\n    see what was with: sluicegate run show {}",
                        run.id, run.id
                    )));
                }
                // What it took may be kept longer than the run itself.
                Err(_) if beginning.len() == runs::ID_CHARS => beginning,
                Err(error) => return Err(error),
            }
        }
        None => session.store.task(&key).await?.and_then(|item| item.run).ok_or_else(|| {
            Failure::Failed(format!(
                "{key} has no run that is stored, so no inputs of it are\n    see what it waits for with: \
                 sluicegate why {} {} --config FILE",
                key.task, key.partition
            ))
        })?,
    };
    let stored = session.store.read_inputs(&run, &key).await?;
    let mut inputs = Vec::with_capacity(stored.len());
    for input in stored {
        inputs.extend(shown(&session.store, input).await?);
    }
    let shown = Inputs { task: key.task, partition: key.partition, run, inputs };
    Output::new(words(&shown), &shown)
}

/// None for a slot.
async fn shown(store: &Store, input: Input) -> Result<Option<ShownInput>, Failure> {
    let Element::Data { dataset, partition } = &input.element else { return Ok(None) };
    let mut objects = Vec::new();
    if !input.rows.is_empty() {
        let journal = store.read_journal(dataset, partition, Some(&input.rows)).await?;
        objects.extend(journal.objects.iter().map(ShownObject::of));
    }
    if let Receipt::Object(version) = &input.receipt {
        let (object, version) = (input.place.clone(), version.clone());
        // A marker may be among the objects beside it.
        if !objects.iter().any(|known: &ShownObject| known.object == object) {
            objects.push(ShownObject { object, version, bytes: None, listed: false });
        }
    }
    Ok(Some(ShownInput {
        dataset: dataset.clone(),
        partition: *partition,
        place: input.place,
        received: input.receipt.to_string(),
        objects,
    }))
}

impl ShownObject {
    fn of(arrival: Arrival) -> Self {
        let Arrival { bucket, key, version, bytes, source } = arrival;
        let listed = source == Source::Listing;
        Self { object: format!("s3://{bucket}/{key}"), version, bytes, listed }
    }
}

fn words(shown: &Inputs) -> String {
    let Inputs { task, partition, run, inputs } = shown;
    if inputs.is_empty() {
        return format!(
            "no inputs of {task} {partition} are stored for run {run}: it had none, or they have \
             expired"
        );
    }
    let mut text = format!("{task} {partition} in run {run}\n");
    for input in inputs {
        let ShownInput { dataset, partition, place, received, objects } = input;
        // One object is named below.
        let is_named = objects.iter().any(|only| only.object == *place);
        let place = if is_named { String::new() } else { format!(": {}", plain(place)) };
        text.push_str(&format!("\n{dataset} {partition}{place} ({})\n", plain(received)));
        for ShownObject { object, version, bytes, listed } in objects {
            let bytes = match bytes {
                None => String::new(),
                Some(1) => "  1 byte".to_owned(),
                Some(more) => format!("  {more} bytes"),
            };
            let found = if *listed { "  listed" } else { "" };
            text.push_str(&format!("  {}  {}{bytes}{found}\n", plain(object), plain(version)));
        }
    }
    text
}
