//! Why something failed, as one of a few classes: a profile says by class how
//! often a run gets a new cluster, and readers filter by it. Decided from EMR's and
//! Redshift's own words and nothing else. Not for what follows from a class: `run` decides that.

use serde::{Deserialize, Serialize};

/// The classes of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The machines came, and could not be made ready: a bootstrap action, or an
    /// application that EMR installs.
    Bootstrap,
    /// EC2 has not got the machines now, or the account's quota of them is used up.
    Capacity,
    /// Spot instances were taken away.
    SpotLoss,
    /// EMR, S3 or the warehouse does not take what it is asked for; it will not take
    /// it later either.
    Validation,
    /// The task's own step failed.
    UserCode,
    /// It took longer than it was allowed to.
    TimeOut,
    /// Somebody else ended the cluster, cancelled the step or the statement, or
    /// was at the same rows.
    External,
    /// AWS's own error, or an end for which it gives no reason.
    Internal,
}

/// EC2's and EMR's words for machines that cannot be had, in lower case.
const CAPACITY_WORDS: [&str; 10] = [
    "insufficient capacity",
    "insufficientinstancecapacity",
    "not have sufficient",
    "no capacity",
    "no-capacity",
    "capacity-not-available",
    "service quota",
    "limitexceeded",
    "exceeds your limit",
    "countexceeded",
];
/// YARN's words for machines that went away under a step, in lower case.
const LOST_NODE_WORDS: [&str; 3] = ["on a *lost* node", "exitcode: -100", "spot interruption"];

/// Redshift's words for others at work on the same rows, in lower case.
/// Of two that create the same table at once, one fails too.
const CONFLICT_WORDS: [&str; 7] = [
    "serializable isolation violation",
    "could not serialize",
    "deadlock",
    "lock timeout",
    "concurrent",
    "already exists",
    "duplicate key",
];
/// Its words for what is wrong with the table, the files or the rights. That is not tried
/// again (see `load`), so what is not known is no such thing.
const WRONG_WORDS: [&str; 17] = [
    "invalid keys",
    "permission denied",
    "access denied",
    "accessdenied",
    "not authorized",
    "does not exist",
    "no such",
    "incompatible",
    "mismatch",
    "does not match",
    "syntax error",
    "invalid input",
    "invalid value",
    "too long",
    "longer than the length",
    "out of range",
    "of type",
];

impl FailureClass {
    /// The class as the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            FailureClass::Bootstrap => "bootstrap",
            FailureClass::Capacity => "capacity",
            FailureClass::SpotLoss => "spot-loss",
            FailureClass::Validation => "validation",
            FailureClass::UserCode => "user-code",
            FailureClass::TimeOut => "time-out",
            FailureClass::External => "external",
            FailureClass::Internal => "internal",
        }
    }

    /// Of a cluster that has ended before its work; `reason` is EMR's `CODE: message`,
    /// `spot` whether it asked for spot instances.
    pub fn of_cluster(reason: &str, spot: bool) -> Self {
        let words = reason.to_lowercase();
        match reason.split(':').next().unwrap_or_default() {
            "BOOTSTRAP_FAILURE" => FailureClass::Bootstrap,
            "INSTANCE_FLEET_TIMEOUT" => FailureClass::Capacity,
            "STEP_FAILURE" => FailureClass::UserCode,
            // EMR ended it because nothing ran on it.
            "ALL_STEPS_COMPLETED" => FailureClass::TimeOut,
            "USER_REQUEST" if words.contains("idle") => FailureClass::TimeOut,
            "USER_REQUEST" => FailureClass::External,
            "INSTANCE_FAILURE" if words.contains("spot") => FailureClass::SpotLoss,
            _ if is_capacity(&words) => FailureClass::Capacity,
            "VALIDATION_ERROR" => FailureClass::Validation,
            // EMR often says only that machines are gone.
            "INSTANCE_FAILURE" if spot => FailureClass::SpotLoss,
            _ => FailureClass::Internal,
        }
    }

    /// Of a RunJobFlow that EMR refuses for good.
    pub fn of_refusal(reason: &str) -> Self {
        match is_capacity(&reason.to_lowercase()) {
            true => FailureClass::Capacity,
            false => FailureClass::Validation,
        }
    }

    /// Of a statement that the warehouse says has failed; `words` are its own.
    pub fn of_statement(words: &str) -> Self {
        let words = words.to_lowercase();
        let has = |any: &[&str]| any.iter().any(|some| words.contains(some));
        match () {
            () if has(&CONFLICT_WORDS) => FailureClass::External,
            () if has(&WRONG_WORDS) => FailureClass::Validation,
            () => FailureClass::Internal,
        }
    }

    /// Of a step that EMR says has failed; `details` are its words.
    pub fn of_step(details: &str) -> Self {
        let words = details.to_lowercase();
        match LOST_NODE_WORDS.iter().any(|lost| words.contains(lost)) {
            true => FailureClass::SpotLoss,
            false => FailureClass::UserCode,
        }
    }
}

fn is_capacity(words: &str) -> bool {
    CAPACITY_WORDS.iter().any(|capacity| words.contains(capacity))
}

#[cfg(test)]
mod tests {
    use super::FailureClass::*;
    use super::*;

    #[test]
    fn failed_statements_have_their_classes() {
        for (words, class) in [
            ("ERROR: 1023 Detail: Serializable isolation violation on table in Redshift", External),
            ("ERROR: deadlock detected", External),
            (
                "Query #1 failed with ERROR: duplicate key value violates unique constraint \
                 \"pg_type_typname_nsp_index\"",
                External,
            ),
            ("ERROR: could not complete because of conflict with concurrent transaction", External),
            ("ERROR: Disk Full", Internal),
            ("ERROR: the cluster is paused", Internal),
            ("ERROR: column \"carrier\" does not exist", Validation),
            (
                "ERROR: S3ServiceException:Please reduce your request rate.,Status 503,Error SlowDown",
                Internal,
            ),
            ("ERROR: S3ServiceException:Access Denied,Status 403,Error AccessDenied", Validation),
            (
                "ERROR: Spectrum Scan Error: File 'x' has an incompatible Parquet schema for \
                 column 'delay'",
                Validation,
            ),
            ("ERROR: permission denied for relation flights", Validation),
        ] {
            assert_eq!(FailureClass::of_statement(words), class, "{words}");
        }
    }

    /// What EMR and EC2 are known to say.
    #[test]
    fn the_ends_of_clusters_have_their_classes() {
        for (reason, spot, class) in [
            (
                "BOOTSTRAP_FAILURE: On the master instance (i-0123), bootstrap action 2 returned a \
                 non-zero return code",
                false,
                Bootstrap,
            ),
            (
                "BOOTSTRAP_FAILURE: On the master instance (i-0123), application provisioning failed",
                true,
                Bootstrap,
            ),
            (
                "BOOTSTRAP_FAILURE: On 2 slave instances (including i-1 and i-2), bootstrap action 1 timed out executing",
                false,
                Bootstrap,
            ),
            (
                "INSTANCE_FLEET_TIMEOUT: Unable to provision instances within the timeout",
                false,
                Capacity,
            ),
            (
                "VALIDATION_ERROR: The request to create the EMR cluster or add EC2 instances to it \
                 failed. The number of vCPUs for instance type m5.xlarge exceeds the EC2 service \
                 quota for that type.",
                false,
                Capacity,
            ),
            (
                "INTERNAL_ERROR: Provisioning failed: InsufficientInstanceCapacity: We currently do \
                 not have sufficient m5.xlarge capacity in the Availability Zone you requested",
                true,
                Capacity,
            ),
            ("VALIDATION_ERROR: MaxSpotInstanceCountExceeded", true, Capacity),
            (
                "VALIDATION_ERROR: The requested number of spot instances exceeds your limit.",
                true,
                Capacity,
            ),
            (
                "VALIDATION_ERROR: The subnet configuration was invalid: No route to any external \
                 sources detected in Route Table for Subnet: subnet-1 for VPC: vpc-1",
                true,
                Validation,
            ),
            ("VALIDATION_ERROR: Invalid InstanceProfile: ec2.", false, Validation),
            (
                "INSTANCE_FAILURE: All slaves in the job flow were terminated due to Spot",
                false,
                SpotLoss,
            ),
            (
                "INSTANCE_FAILURE: Spot instance i-1: instance-terminated-no-capacity",
                true,
                SpotLoss,
            ),
            ("INSTANCE_FAILURE: All slaves in the job flow were terminated", true, SpotLoss),
            ("INSTANCE_FAILURE: The master instance was terminated", false, Internal),
            ("USER_REQUEST: Terminated by user request", true, External),
            ("USER_REQUEST: Auto-terminated: the cluster was idle", false, TimeOut),
            ("ALL_STEPS_COMPLETED: Steps completed", false, TimeOut),
            ("STEP_FAILURE: Shut down as step failed", false, UserCode),
            ("INTERNAL_ERROR: An internal error occurred", true, Internal),
            ("SOMETHING_NEW: never heard of", true, Internal),
            ("", true, Internal),
        ] {
            assert_eq!(FailureClass::of_cluster(reason, spot), class, "{reason}");
        }
    }

    #[test]
    fn refusals_and_steps_have_their_classes() {
        for (reason, class) in [
            ("ValidationException: no such release label", Validation),
            ("AccessDeniedException: not authorized to perform: iam:PassRole", Validation),
            ("ValidationException: VcpuLimitExceeded: you have requested more", Capacity),
        ] {
            assert_eq!(FailureClass::of_refusal(reason), class, "{reason}");
        }
        for (details, class) in [
            ("exit code 3", UserCode),
            ("Exception in thread \"main\" org.apache.spark.SparkException", UserCode),
            (
                "Application failed 2 times: AM Container exited with exitCode: -100: Container \
                 released on a *lost* node",
                SpotLoss,
            ),
            ("", UserCode),
        ] {
            assert_eq!(FailureClass::of_step(details), class, "{details}");
        }
    }

    #[test]
    fn a_class_is_stored_by_its_name() {
        for class in
            [Bootstrap, Capacity, SpotLoss, Validation, UserCode, TimeOut, External, Internal]
        {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
    }
}
