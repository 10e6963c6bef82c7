//! EMR's quotas, as the account has them.

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema;
use crate::core::quota::{Call, Quota, Quotas};

const BURST_MAX: u32 = 10_000;
/// Slower than a call in a hundred seconds, nothing would ever end.
const PER_SECOND_MIN: f64 = 0.01;
const PER_SECOND_MAX: f64 = 10_000.0;

impl Check {
    pub(super) fn quotas(&mut self, raw: &schema::Quotas) -> Quotas {
        let calls = Call::ALL.into_iter().map(|call| {
            let (name, raw) = match call {
                Call::RunJobFlow => ("run-job-flow", &raw.run_job_flow),
                Call::AddJobFlowSteps => ("add-job-flow-steps", &raw.add_job_flow_steps),
                Call::DescribeCluster => ("describe-cluster", &raw.describe_cluster),
                Call::DescribeStep => ("describe-step", &raw.describe_step),
                Call::ListSteps => ("list-steps", &raw.list_steps),
                Call::ListClusters => ("list-clusters", &raw.list_clusters),
                Call::TerminateJobFlows => ("terminate-job-flows", &raw.terminate_job_flows),
                Call::CancelSteps => ("cancel-steps", &raw.cancel_steps),
            };
            (call, self.quota(name, raw))
        });
        let calls = calls.collect();
        Quotas { calls, account: self.quota("account", &raw.account) }
    }

    fn quota(&mut self, name: &str, raw: &schema::Quota) -> Quota {
        let per_second = *raw.per_second.get_ref();
        if !(PER_SECOND_MIN..=PER_SECOND_MAX).contains(&per_second) {
            let range = format!("expected {PER_SECOND_MIN} to {PER_SECOND_MAX}");
            self.report(
                Mistake::at(
                    raw.per_second.span(),
                    format!("per-second of {name} is {per_second}: {range}"),
                )
                .help("write how many calls EMR allows in a second, as in 0.5"),
            );
        }
        let burst = self.count(&format!("burst of {name}"), &raw.burst, 1..=BURST_MAX);
        Quota { burst, per_second }
    }
}
