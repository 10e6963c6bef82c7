//! The poll lease: which replica makes the looks at EMR that nothing called
//! for, in one item of the task table. It saves calls, and nothing else: with
//! two holders, or none, every run still ends. Not for what must happen once;
//! that is conditional by itself.

use jiff::{SignedDuration, Timestamp};

use super::{Store, StoreError, item, write_error};
use crate::aws::error::AwsError;

/// Where the lease stands among the tasks, whose names have no `~`.
const LEASE: &str = "~lease";
const POLL: &str = "poll";
const HOLDER: &str = "holder";
const UNTIL: &str = "until";

impl Store {
    /// Takes or renews the lease for a replica until `now + term`. A conflict
    /// means that another one has it. One that ends later than anybody could
    /// have asked for comes from a clock that was wrong, and counts as over; so
    /// does one whose end is missing or no instant.
    pub async fn take_poll_lease(
        &self,
        holder: &str,
        now: Timestamp,
        term: SignedDuration,
    ) -> Result<(), StoreError> {
        let after = |from: Timestamp| from.saturating_add(term).unwrap_or(Timestamp::MAX);
        let until = after(now);
        self.client
            .put_item()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(LEASE))
            .item(item::PARTITION, item::text(POLL))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(HOLDER, item::text(holder))
            .item(UNTIL, item::instant(until))
            .condition_expression(
                "NOT attribute_type(#until, :number) OR #holder = :holder OR #until <= :now \
                 OR #until > :absurd",
            )
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#until", UNTIL)
            .expression_attribute_values(":holder", item::text(holder))
            .expression_attribute_values(":now", item::instant(now))
            .expression_attribute_values(":number", item::text("N"))
            .expression_attribute_values(":absurd", item::instant(after(until)))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "PutItem", &error))
            .map_err(|error| write_error(error, "the poll lease"))
    }

    /// Gives the lease up, if the replica still has it: another one takes it
    /// without waiting for its end.
    pub async fn release_poll_lease(&self, holder: &str) -> Result<(), StoreError> {
        let released = self
            .client
            .put_item()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(LEASE))
            .item(item::PARTITION, item::text(POLL))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .condition_expression("#holder = :holder")
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_values(":holder", item::text(holder))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "PutItem", &error))
            .map_err(|error| write_error(error, "the poll lease"));
        match released {
            Err(StoreError::Conflict(_)) => Ok(()),
            result => result,
        }
    }
}
