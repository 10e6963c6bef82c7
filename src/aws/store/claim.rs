//! Claims, in the run table: one item for each submission of steps, written
//! once, by the first guard that runs or by the run that gives its attempt up.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;

use super::item::{self, Item};
use super::{Store, StoreError};
use crate::aws::error::AwsError;

/// The same word as in the guard's script, `deploy/emr/guard.sh`.
pub(super) const HOLDER: &str = "holder";

impl Store {
    /// Takes a claim for `holder` if nobody has it. Returns who has it now.
    pub async fn claim(&self, key: &str, holder: &str) -> Result<String, StoreError> {
        let result = self
            .client
            .update_item()
            .table_name(&self.run_table)
            .key(item::RUN_ID, item::text(key))
            .update_expression("SET #holder = :me")
            .condition_expression("attribute_not_exists(#holder) OR #holder = :me")
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_values(":me", item::text(holder))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else { return Ok(holder.to_owned()) };
        let held = error.as_service_error().and_then(|error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => failed.item(),
            _ => None,
        });
        match held.and_then(|item: &Item| item::read_optional_text(item, HOLDER)) {
            Some(holder) => Ok(holder),
            None => Err(AwsError::new("DynamoDB", "UpdateItem", &error).into()),
        }
    }
}
