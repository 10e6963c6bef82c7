//! Makes the tables of the other designs: a key, a sort key if need be, paid
//! by request. The daemon makes its own.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

pub async fn create_table(
    client: &Client,
    name: &str,
    key: &str,
    sort_key: Option<&str>,
) -> anyhow::Result<()> {
    let keys = [Some((key, KeyType::Hash)), sort_key.map(|key| (key, KeyType::Range))];
    let mut table = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (key, kind) in keys.into_iter().flatten() {
        table = table
            .key_schema(KeySchemaElement::builder().attribute_name(key).key_type(kind).build()?)
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name(key)
                    .attribute_type(ScalarAttributeType::S)
                    .build()?,
            );
    }
    table.send().await?;
    Ok(())
}
