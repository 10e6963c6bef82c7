//! The Redshift Data API: sends statements, asks how they are. Knows no SQL:
//! that is `core::load::sql`.

use aws_config::SdkConfig;
use aws_sdk_redshiftdata::types::{
    Field, StatementStatusString as PartState, StatusString as State,
};

use super::error::{AwsError, Kind};
use crate::core::load::sql::{is_insert, meaning};
use crate::core::load::{Place, Seen, Warehouse};

const SERVICE: &str = "Redshift Data API";
/// Its bound on a statement's name.
const NAME_CHARS_MAX: usize = 500;

#[derive(Debug, Clone)]
pub struct Redshift {
    client: aws_sdk_redshiftdata::Client,
}

impl Redshift {
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: aws_sdk_redshiftdata::Client::new(config) }
    }

    /// Sends statements as one transaction; returns their common id. The same
    /// token gives the same id again, for eight hours.
    pub async fn execute(
        &self,
        warehouse: &Warehouse,
        name: &str,
        statements: Vec<String>,
        token: Option<&str>,
    ) -> Result<String, AwsError> {
        const ACTION: &str = "BatchExecuteStatement";
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        let request = self
            .client
            .batch_execute_statement()
            .database(&warehouse.database)
            .set_secret_arn(warehouse.secret.clone())
            .set_client_token(token.map(str::to_owned))
            .statement_name(name)
            .set_sqls(Some(statements));
        let request = match &warehouse.place {
            Place::Workgroup(workgroup) => request.workgroup_name(workgroup),
            Place::Cluster { cluster, user } => {
                request.cluster_identifier(cluster).set_db_user(user.clone())
            }
        };
        let answer =
            request.send().await.map_err(|error| AwsError::new(SERVICE, ACTION, &error))?;
        answer.id.ok_or_else(|| unknown(ACTION, "it gave no id"))
    }

    pub async fn look(&self, statement: &str) -> Result<Seen, AwsError> {
        const ACTION: &str = "DescribeStatement";
        let answer = match self.client.describe_statement().id(statement).send().await {
            Ok(answer) => answer,
            Err(error) => {
                return match AwsError::new(SERVICE, ACTION, &error) {
                    error if error.kind == Kind::NotFound => Ok(Seen::Gone),
                    error => Err(error),
                };
            }
        };
        Ok(match answer.status {
            Some(State::Finished) => {
                let parts = answer.sub_statements.unwrap_or_default();
                let insert = parts
                    .iter()
                    .find(|part| part.query_string().is_some_and(is_insert))
                    .and_then(|part| u64::try_from(part.result_rows()).ok());
                Seen::Finished { rows: insert }
            }
            Some(State::Failed) => {
                let parts = answer.sub_statements.unwrap_or_default();
                let failed = parts.iter().find(|part| part.status == Some(PartState::Failed));
                let words = answer.error.unwrap_or_else(|| "no reason is given".to_owned());
                let meaning = failed.and_then(|part| meaning(part.query_string()?, &words));
                Seen::Failed(meaning.map_or(words, str::to_owned))
            }
            Some(State::Aborted) => Seen::Aborted,
            // A state that this version does not know is no end.
            _ => Seen::Working,
        })
    }

    pub async fn cancel(&self, statement: &str) -> Result<(), AwsError> {
        let result = self.client.cancel_statement().id(statement).send().await;
        result.map(|_| ()).map_err(|error| AwsError::new(SERVICE, "CancelStatement", &error))
    }

    /// The first field of the only row of a batch's `number`-th statement; None
    /// if there is no row.
    pub async fn only_text(
        &self,
        statement: &str,
        number: usize,
    ) -> Result<Option<String>, AwsError> {
        const ACTION: &str = "GetStatementResult";
        let id = format!("{statement}:{number}");
        let answer = self.client.get_statement_result().id(id).send().await;
        let answer = answer.map_err(|error| AwsError::new(SERVICE, ACTION, &error))?;
        match answer.records.first().and_then(|row| row.first()) {
            None => Ok(None),
            Some(Field::StringValue(text)) => Ok(Some(text.clone())),
            Some(_) => Err(unknown(ACTION, "its row holds no text")),
        }
    }
}

fn unknown(action: &'static str, message: &str) -> AwsError {
    AwsError { service: SERVICE, action, kind: Kind::Unknown, message: message.to_owned() }
}
