//! Cluster profiles: what EMR takes, checked before it has to refuse it.

use jiff::SignedDuration;

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{self, Placed};
use crate::core::catalog::{
    AttemptLimits, BootstrapAction, ClusterSpec, Fleet, FleetRole, Profile,
};

/// A transaction of DynamoDB takes 100 items: the run and one for each member.
const BATCH_SIZE_MAX: u32 = 50;

impl Check {
    pub(super) fn profile(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Profile,
        limits: AttemptLimits,
    ) -> Option<Profile> {
        self.name("profile", name);
        let minutes = SignedDuration::from_mins;
        let hours = SignedDuration::from_hours;
        let limits = AttemptLimits {
            max_attempts: self.count("max-attempts", &raw.max_attempts, 1..=10),
            lifetime: self.within("lifetime", &raw.lifetime, minutes(5)..=hours(24 * 7)),
            ..limits
        };
        let fleets = [
            (FleetRole::Primary, Some(&raw.primary)),
            (FleetRole::Core, raw.core.as_ref()),
            (FleetRole::Task, raw.task.as_ref()),
        ];
        if let Some(log_uri) = raw.log_uri.as_ref().filter(|uri| !uri.get_ref().starts_with("s3")) {
            self.report(Mistake::at(log_uri.span(), "log-uri does not start with s3://"));
        }
        for tag in raw.tags.keys().filter(|tag| tag.get_ref().starts_with("sluicegate:")) {
            self.report(Mistake::at(tag.span(), "tags that start with sluicegate: are our own"));
        }
        Some(Profile {
            name: name.get_ref().clone(),
            batch_size: self.count("batch-size", &raw.batch_size, 1..=BATCH_SIZE_MAX) as usize,
            max_wait: self.within("max-wait", &raw.max_wait, SignedDuration::ZERO..=hours(24)),
            limits,
            cluster: ClusterSpec {
                release_label: raw.release_label.get_ref().clone(),
                applications: raw.applications.clone(),
                service_role: raw.service_role.clone(),
                instance_profile: raw.instance_profile.clone(),
                log_uri: raw.log_uri.as_ref().map(|uri| uri.get_ref().clone()),
                visible_to_all_users: raw.visible_to_all_users,
                subnets: raw.subnets.clone(),
                fleets: fleets
                    .into_iter()
                    .filter_map(|(role, fleet)| self.fleet(role, fleet?))
                    .collect(),
                configurations: raw.configurations.clone(),
                bootstrap_actions: raw.bootstrap_actions.iter().map(bootstrap_action).collect(),
                tags: raw
                    .tags
                    .iter()
                    .map(|(key, value)| (key.get_ref().clone(), value.clone()))
                    .collect(),
                // EMR's own bounds.
                idle_timeout: self.within(
                    "idle-timeout",
                    &raw.idle_timeout,
                    minutes(1)..=hours(168),
                ),
            },
        })
    }

    fn fleet(&mut self, role: FleetRole, raw: &schema::Fleet) -> Option<Fleet> {
        let types = raw.instance_types.get_ref();
        if types.is_empty() || types.len() > 5 {
            self.report(Mistake::at(
                raw.instance_types.span(),
                format!("{} instance types: EMR takes 1 to 5 for a fleet", types.len()),
            ));
        }
        let count = raw.on_demand.saturating_add(raw.spot);
        if count == 0 || (role == FleetRole::Primary && count != 1) {
            let expected = match role {
                FleetRole::Primary => "a primary fleet has exactly 1 instance",
                _ => "a fleet needs at least 1 instance",
            };
            self.report(
                Mistake::at(raw.instance_types.span(), expected)
                    .help("set on-demand or spot beside instance-types"),
            );
        }
        Some(Fleet {
            role,
            on_demand: raw.on_demand,
            spot: raw.spot,
            instance_types: types.clone(),
        })
    }
}

fn bootstrap_action(raw: &schema::BootstrapAction) -> BootstrapAction {
    BootstrapAction { name: raw.name.clone(), script: raw.script.clone(), args: raw.args.clone() }
}
