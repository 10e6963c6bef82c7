//! `[quotas]`: what the account may ask of EMR. The defaults are what AWS
//! grants without asking.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Placed;

/// What the account may ask of EMR; a call that would be too many waits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Quotas {
    pub run_job_flow: Quota,
    pub add_job_flow_steps: Quota,
    pub describe_cluster: Quota,
    pub describe_step: Quota,
    pub list_steps: Quota,
    pub list_clusters: Quota,
    pub terminate_job_flows: Quota,
    pub cancel_steps: Quota,
    /// All calls to EMR together.
    pub account: Quota,
}

/// So many calls at once, then so many a second.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quota {
    /// So many calls at once.
    pub burst: Placed<u32>,
    /// So many a second after that.
    pub per_second: Placed<f64>,
}

impl Default for Quotas {
    fn default() -> Self {
        let quota = |burst, per_second| Quota {
            burst: Placed::unplaced(burst),
            per_second: Placed::unplaced(per_second),
        };
        Self {
            run_job_flow: quota(10, 0.5),
            add_job_flow_steps: quota(10, 0.5),
            describe_cluster: quota(10, 1.0),
            describe_step: quota(10, 0.5),
            list_steps: quota(10, 0.5),
            list_clusters: quota(20, 0.5),
            terminate_job_flows: quota(10, 0.5),
            cancel_steps: quota(10, 0.5),
            account: quota(25, 5.0),
        }
    }
}
