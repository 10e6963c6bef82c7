//! Cluster profiles: what EMR takes, checked before it has to refuse it. Their
//! instances: see `instances`.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::attempts::ATTEMPTS_MAX;
use super::{Check, NO_VARIABLE, VARIABLE};
use crate::config::Assets;
use crate::config::mistake::Mistake;
use crate::config::schema::{self, Placed, Text};
use crate::core::catalog::{AttemptLimits, Profile};
use crate::core::cluster::{BootstrapAction, ClusterSpec, Image, Kerberos, SecurityGroups};
use crate::core::secret::SecretRef;

/// A transaction of DynamoDB takes 100 items: the run and one for each member.
const BATCH_SIZE_MAX: u32 = 50;
/// The lengths of EMR's service model.
pub(super) const NAME_CHARS_MAX: usize = 256;
const TEXT_CHARS_MAX: usize = 10_280;
/// EMR takes 16; one is our own.
const BOOTSTRAP_ACTIONS_MAX: usize = 15;
const STEP_CONCURRENCY_MAX: u32 = 256;
/// EMR takes 50 tags; four are ours.
const TAGS_MAX: usize = 46;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
/// What a gp3 volume can be.
pub(super) const VOLUME_GIB_MAX: u32 = 16_384;
pub(super) const GP3_IOPS: std::ops::RangeInclusive<u32> = 3_000..=16_000;
pub(super) const GP3_THROUGHPUT: std::ops::RangeInclusive<u32> = 125..=1_000;

impl Check {
    pub(super) fn profile(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Profile,
        limits: &AttemptLimits,
        assets: Option<&Assets>,
    ) -> Option<Profile> {
        self.name("profile", name);
        let minutes = SignedDuration::from_mins;
        let hours = SignedDuration::from_hours;
        let max_attempts = self.count("max-attempts", &raw.max_attempts, 1..=ATTEMPTS_MAX);
        let limits = AttemptLimits {
            max_attempts,
            on_demand_last: raw.attempts.on_demand_last,
            policies: self.attempts(&raw.attempts, max_attempts),
            lifetime: self.within("lifetime", &raw.lifetime, minutes(5)..=hours(24 * 7)),
            stall_timeout: raw
                .stall_timeout
                .as_ref()
                .map(|timeout| self.within("stall-timeout", timeout, minutes(15)..=hours(24 * 7))),
            ..limits.clone()
        };
        let cluster = self.cluster(name, raw);
        self.spot_before_the_rest(name, raw, &cluster);
        Some(Profile {
            name: name.get_ref().clone(),
            batch_size: self.count("batch-size", &raw.batch_size, 1..=BATCH_SIZE_MAX) as usize,
            max_clusters: self.cap("max-clusters", raw.max_clusters.as_ref()),
            max_wait: self.within("max-wait", &raw.max_wait, SignedDuration::ZERO..=hours(24)),
            limits,
            cluster: ClusterSpec {
                deadline: assets.map(|assets| assets.uri(Assets::DEADLINE)),
                ..cluster
            },
        })
    }

    /// EMR looks for spot instances as long as it was told to, and that is no stall;
    /// and only a cluster that has them can end itself when its lifetime is over.
    fn spot_before_the_rest(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Profile,
        cluster: &ClusterSpec,
    ) {
        let launches = cluster.fleets.iter().filter_map(|fleet| fleet.spot_launch);
        let Some(spot) = launches.map(|launch| launch.timeout).max() else { return };
        if *raw.lifetime.get_ref() <= spot {
            let message = format!(
                "lifetime is {:#}, but EMR may look for spot instances for {spot:#}",
                raw.lifetime.get_ref()
            );
            let place =
                if raw.lifetime.span().is_empty() { name.span() } else { raw.lifetime.span() };
            self.report(
                Mistake::at(place, message)
                    .help("raise lifetime, or shorten the fleets' spot-timeout"),
            );
        }
        if let Some(stall) = &raw.stall_timeout
            && *stall.get_ref() <= spot
        {
            let message = format!(
                "stall-timeout is {:#}, but EMR may look for spot instances for {spot:#}",
                stall.get_ref()
            );
            self.report(
                Mistake::at(stall.span(), message)
                    .help("raise stall-timeout, or shorten the fleets' spot-timeout"),
            );
        }
    }

    fn cluster(&mut self, name: &Placed<String>, raw: &schema::Profile) -> ClusterSpec {
        self.release_label(&raw.release_label);
        if let Some(log_uri) = raw.log_uri.as_ref().filter(|uri| !uri.get_ref().starts_with("s3")) {
            self.report(Mistake::at(log_uri.span(), "log-uri does not start with s3://"));
        }
        let (fleets, groups) = self.instances(name, raw);
        let applications = raw.applications.iter();
        let idle = SignedDuration::from_mins(1)..=SignedDuration::from_hours(168);
        let concurrency = 1..=STEP_CONCURRENCY_MAX;
        ClusterSpec {
            release_label: raw.release_label.get_ref().clone(),
            applications: applications.map(|name| self.emr_name("application", name)).collect(),
            service_role: self.emr_name("service-role", &raw.service_role),
            instance_profile: self.emr_name("instance-profile", &raw.instance_profile),
            log_uri: raw
                .log_uri
                .as_ref()
                .map(|uri| self.text_of("log-uri", uri, 1, TEXT_CHARS_MAX)),
            log_encryption_key: self
                .emr_names("log-encryption-key", raw.log_encryption_key.as_ref()),
            visible_to_all_users: raw.visible_to_all_users,
            subnets: raw.subnets.iter().map(|subnet| self.emr_name("subnet", subnet)).collect(),
            security_groups: self.security_groups(raw.security_groups.as_ref()),
            key_name: self.emr_names("key-name", raw.key_name.as_ref()),
            fleets,
            groups,
            managed_scaling: self.managed_scaling(raw),
            scale_down: raw.scale_down,
            unhealthy_node_replacement: raw.unhealthy_node_replacement,
            image: self.image(raw),
            configurations: raw
                .configurations
                .iter()
                .map(|(name, settings)| (self.emr_name("classification", name), settings.clone()))
                .collect(),
            bootstrap_actions: self.bootstrap_actions(&raw.bootstrap_actions),
            security_configuration: self
                .emr_names("security-configuration", raw.security_configuration.as_ref()),
            kerberos: self.kerberos(raw),
            tags: self.tags(&raw.tags),
            // EMR's own bounds.
            idle_timeout: self.within("idle-timeout", &raw.idle_timeout, idle),
            step_concurrency: self.count("step-concurrency", &raw.step_concurrency, concurrency),
            guard: self.guard(raw),
            deadline: None,
        }
    }

    fn guard(&mut self, raw: &schema::Profile) -> bool {
        let (guard, concurrency) = (*raw.guard.get_ref(), raw.step_concurrency.get_ref());
        if guard && *concurrency > 1 {
            let message = format!("step-concurrency is {concurrency}, with a guard");
            self.report(Mistake::at(raw.step_concurrency.span(), message).help(
                "EMR would start steps beside the guard, which has to be the first: leave \
                 step-concurrency out, or add guard = false to this profile",
            ));
        }
        guard
    }

    /// A text that names something to EMR.
    pub(super) fn emr_name(&mut self, what: &str, text: &Text) -> String {
        self.text_of(what, text, 1, NAME_CHARS_MAX)
    }

    fn emr_names(&mut self, what: &str, text: Option<&Text>) -> Option<String> {
        text.map(|text| self.emr_name(what, text))
    }

    fn text_of(&mut self, what: &str, text: &Text, least: usize, most: usize) -> String {
        let value = text.get_ref();
        let chars = value.chars().count();
        if chars < least {
            self.report(Mistake::at(text.span(), format!("{what} is empty")));
        } else if chars > most {
            let message = format!("{what} has {chars} characters: EMR takes {most}");
            self.report(Mistake::at(text.span(), message));
        } else if value.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)) {
            let message = format!("{what} holds a control character, which EMR refuses");
            self.report(Mistake::at(text.span(), message));
        }
        value.clone()
    }

    /// The release must know auto-termination, which every cluster asks for.
    fn release_label(&mut self, label: &Text) {
        let version = label.get_ref().strip_prefix("emr-").map(|version| {
            version.split('.').map(str::parse::<u16>).collect::<Result<Vec<_>, _>>()
        });
        match version {
            Some(Ok(version)) if version.len() == 3 => {
                let known = match version[0] {
                    0..=4 => false,
                    5 => version[1] >= 30,
                    6 => version[1] >= 1,
                    _ => true,
                };
                if !known {
                    self.report(
                        Mistake::at(
                            label.span(),
                            format!("{} cannot end an idle cluster", label.get_ref()),
                        )
                        .help("use emr-5.30.0, emr-6.1.0 or newer"),
                    );
                }
            }
            _ => self.report(
                Mistake::at(label.span(), format!("{:?} is no release label", label.get_ref()))
                    .help("expected emr-MAJOR.MINOR.PATCH, for example emr-7.13.0"),
            ),
        }
    }

    fn image(&mut self, raw: &schema::Profile) -> Image {
        let mut number = |what, value: Option<&Placed<u32>>, range| {
            value.map(|value| self.count(what, value, range))
        };
        let root_volume_gib =
            number("root-volume-gib", raw.root_volume_gib.as_ref(), 10..=VOLUME_GIB_MAX);
        let root_volume_iops = number("root-volume-iops", raw.root_volume_iops.as_ref(), GP3_IOPS);
        let root_volume_throughput =
            number("root-volume-throughput", raw.root_volume_throughput.as_ref(), GP3_THROUGHPUT);
        if let Some(ami) = raw.custom_ami.as_ref().filter(|ami| !ami.get_ref().starts_with("ami-"))
        {
            self.report(Mistake::at(ami.span(), "custom-ami does not start with ami-"));
        }
        if let (Some(_), Some(label)) = (&raw.custom_ami, &raw.os_release_label) {
            self.report(
                Mistake::at(label.span(), "os-release-label and custom-ami exclude each other")
                    .help("a custom AMI brings its own operating system"),
            );
        }
        Image {
            custom_ami: self.emr_names("custom-ami", raw.custom_ami.as_ref()),
            os_release_label: self.emr_names("os-release-label", raw.os_release_label.as_ref()),
            root_volume_gib,
            root_volume_iops,
            root_volume_throughput,
        }
    }

    fn security_groups(&mut self, raw: Option<&Placed<SecurityGroups>>) -> Option<SecurityGroups> {
        let raw = raw?;
        let groups = raw.get_ref();
        let names = [&groups.primary, &groups.core_and_task, &groups.service_access];
        let additional = groups.additional_primary.iter().chain(&groups.additional_core_and_task);
        let mut all = names.into_iter().flatten().chain(additional);
        if all.any(|group| !group.starts_with("sg-")) {
            self.report(
                Mistake::at(raw.span(), "a security group does not start with sg-")
                    .help("write their ids, not their names"),
            );
        }
        if groups.primary.is_some() != groups.core_and_task.is_some() {
            self.report(
                Mistake::at(raw.span(), "EMR takes primary and core-and-task only together")
                    .help("give both, or neither and leave them to EMR"),
            );
        }
        Some(groups.clone())
    }

    fn bootstrap_actions(&mut self, raw: &[schema::BootstrapAction]) -> Vec<BootstrapAction> {
        if let Some(extra) = raw.get(BOOTSTRAP_ACTIONS_MAX) {
            let message = format!(
                "EMR takes 16 bootstrap actions, and 1 is our own: {BOOTSTRAP_ACTIONS_MAX} are left"
            );
            self.report(Mistake::at(extra.name.span(), message));
        }
        raw.iter().map(|action| self.bootstrap_action(action)).collect()
    }

    fn bootstrap_action(&mut self, raw: &schema::BootstrapAction) -> BootstrapAction {
        let script = raw.script.get_ref();
        if !script.starts_with("s3://") && !script.starts_with("file:") {
            self.report(
                Mistake::at(raw.script.span(), format!("{script:?} is no place of a script"))
                    .help("expected s3://BUCKET/KEY, or file:/PATH on the instances"),
            );
        }
        let args = raw.args.iter();
        BootstrapAction {
            name: self.emr_name("a bootstrap action's name", &raw.name),
            script: script.clone(),
            args: args.map(|arg| self.text_of("an argument", arg, 0, TEXT_CHARS_MAX)).collect(),
        }
    }

    fn kerberos(&mut self, raw: &schema::Profile) -> Option<Kerberos> {
        let placed = raw.kerberos.as_ref()?;
        let kerberos = placed.get_ref();
        if raw.security_configuration.is_none() {
            self.report(
                Mistake::at(placed.span(), "kerberos needs security-configuration")
                    .help("name the security configuration that switches Kerberos on"),
            );
        }
        if kerberos.ad_domain_join_user.is_some() != kerberos.ad_domain_join_password.is_some() {
            let message = "EMR takes ad-domain-join-user and ad-domain-join-password only together";
            self.report(Mistake::at(placed.span(), message));
        }
        let secrets = [
            Some(&kerberos.kdc_admin_password),
            kerberos.cross_realm_trust_password.as_ref(),
            kerberos.ad_domain_join_password.as_ref(),
        ];
        if !secrets.into_iter().flatten().all(SecretRef::names_a_variable) {
            self.report(Mistake::at(placed.span(), NO_VARIABLE).help(VARIABLE));
        }
        if kerberos.realm.is_empty() {
            self.report(Mistake::at(placed.span(), "realm is empty"));
        }
        Some(kerberos.clone())
    }

    fn tags(&mut self, raw: &BTreeMap<Text, Text>) -> BTreeMap<String, String> {
        if let Some(extra) = raw.keys().nth(TAGS_MAX) {
            let message = format!("EMR takes 50 tags, and 4 are our own: {TAGS_MAX} are left");
            self.report(Mistake::at(extra.span(), message));
        }
        let mut tags = BTreeMap::new();
        for (key, value) in raw {
            for (prefix, whose) in [("sluicegate:", "our own"), ("aws:", "AWS's own")] {
                if key.get_ref().starts_with(prefix) {
                    let message = format!("tags that start with {prefix} are {whose}");
                    self.report(Mistake::at(key.span(), message));
                }
            }
            tags.insert(
                self.text_of("a tag's key", key, 1, TAG_KEY_CHARS_MAX),
                self.text_of("a tag's value", value, 0, TAG_VALUE_CHARS_MAX),
            );
        }
        tags
    }
}

#[cfg(test)]
mod tests;
