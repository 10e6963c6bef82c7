//! The instances of a profile: fleets or groups, their volumes, and how EMR may
//! resize them.

use std::ops::Range;

use jiff::SignedDuration;

use super::Check;
use super::profile::{GP3_IOPS, GP3_THROUGHPUT, VOLUME_GIB_MAX};
use crate::config::mistake::Mistake;
use crate::config::schema::{self, Placed};
use crate::core::cluster::{
    Fleet, Group, InstanceRole, InstanceType, ManagedScaling, Market, ScalingUnit, SpotLaunch,
    Volumes,
};

/// Instance types of a fleet without and with an allocation strategy.
const FLEET_TYPES_MAX: usize = 5;
const FLEET_TYPES_WITH_STRATEGY_MAX: usize = 30;
/// How long EMR looks for spot capacity if the profile does not say.
const SPOT_TIMEOUT: SignedDuration = SignedDuration::from_mins(20);
const WEIGHT_MAX: u32 = 999;
const VOLUMES_MAX: u32 = 25;
const VOLUME_TYPES: [&str; 6] = ["gp3", "gp2", "io1", "st1", "sc1", "standard"];

impl Check {
    pub(super) fn instances(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Profile,
    ) -> (Vec<Fleet>, Vec<Group>) {
        let fleets = [
            (InstanceRole::Primary, raw.primary.as_ref()),
            (InstanceRole::Core, raw.core.as_ref()),
            (InstanceRole::Task, raw.task.as_ref()),
        ];
        let first = fleets.iter().find_map(|(_, fleet)| *fleet);
        match (first, &raw.groups) {
            (Some(fleet), Some(_)) => self.report(
                Mistake::at(
                    fleet.instance_types.span(),
                    "a cluster has either fleets or groups, and this profile has both",
                )
                .help("keep primary, core and task, or the same inside groups"),
            ),
            (None, None) => self.report(
                Mistake::at(name.span(), "this profile has no instances")
                    .help("add primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }"),
            ),
            (Some(fleet), None) if raw.primary.is_none() => self.report(
                Mistake::at(fleet.instance_types.span(), "this profile has no primary fleet")
                    .help("add primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }"),
            ),
            _ => {}
        }
        if let Some(task) = raw.task.as_ref().filter(|_| raw.core.is_none()) {
            self.report(Mistake::at(task.instance_types.span(), "a task fleet needs a core fleet"));
        }
        let fleets: Vec<_> =
            fleets.iter().filter_map(|(role, fleet)| Some(self.fleet(*role, (*fleet)?))).collect();
        let groups = raw.groups.as_ref().map(|groups| self.groups(groups, raw));
        (fleets, groups.unwrap_or_default())
    }

    fn fleet(&mut self, role: InstanceRole, raw: &schema::Fleet) -> Fleet {
        let strategy = raw.spot_strategy.is_some() || raw.on_demand_strategy.is_some();
        let most = if strategy { FLEET_TYPES_WITH_STRATEGY_MAX } else { FLEET_TYPES_MAX };
        let count = raw.instance_types.get_ref().len();
        if !(1..=most).contains(&count) {
            let mistake = Mistake::at(
                raw.instance_types.span(),
                format!("{count} instance types: EMR takes 1 to {most} for such a fleet"),
            );
            self.report(match strategy {
                true => mistake,
                false => mistake.help(format!(
                    "with spot-strategy or on-demand-strategy it takes {FLEET_TYPES_WITH_STRATEGY_MAX}"
                )),
            });
        }
        let capacity = raw.on_demand.saturating_add(raw.spot);
        if capacity == 0 || (role == InstanceRole::Primary && capacity != 1) {
            let expected = match role {
                InstanceRole::Primary => "a primary fleet has exactly 1 instance",
                _ => "a fleet needs at least 1 instance",
            };
            self.report(
                Mistake::at(raw.instance_types.span(), expected)
                    .help("set on-demand or spot beside instance-types"),
            );
        }
        let volumes = self.volumes(&raw.ebs);
        let types = raw.instance_types.get_ref().iter();
        Fleet {
            role,
            on_demand: raw.on_demand,
            spot: raw.spot,
            instance_types: types.map(|kind| self.instance_type(role, kind, &volumes)).collect(),
            on_demand_strategy: raw.on_demand_strategy,
            spot_launch: self.spot_launch(raw),
        }
    }

    fn spot_launch(&mut self, raw: &schema::Fleet) -> Option<SpotLaunch> {
        let written = [
            raw.spot_strategy.as_ref().map(Placed::span),
            raw.spot_timeout.as_ref().map(Placed::span),
            raw.spot_timeout_action.as_ref().map(Placed::span),
        ];
        if raw.spot == 0 {
            for span in written.into_iter().flatten() {
                self.report(
                    Mistake::at(span, "this says how spot instances are bought, but spot is 0")
                        .help("set spot to the capacity to be bought so"),
                );
            }
            return None;
        }
        let bounds = SignedDuration::from_mins(5)..=SignedDuration::from_hours(24);
        let timeout = match &raw.spot_timeout {
            Some(timeout) => self.within("spot-timeout", timeout, bounds),
            None => SPOT_TIMEOUT,
        };
        Some(SpotLaunch {
            strategy: raw.spot_strategy.as_ref().map(|strategy| *strategy.get_ref()),
            timeout,
            timeout_action: raw
                .spot_timeout_action
                .as_ref()
                .map(|action| *action.get_ref())
                .unwrap_or_default(),
        })
    }

    fn instance_type(
        &mut self,
        role: InstanceRole,
        raw: &Placed<InstanceType>,
        volumes: &[Volumes],
    ) -> InstanceType {
        let mut kind = raw.get_ref().clone();
        self.instance_type_name(&kind.name, raw.span());
        let weight = kind.weight.unwrap_or(1);
        if !(1..=WEIGHT_MAX).contains(&weight) {
            let message = format!("weight is {weight}: expected 1 to {WEIGHT_MAX}");
            self.report(Mistake::at(raw.span(), message));
        } else if role == InstanceRole::Primary && weight != 1 {
            let message = "the one instance of a primary fleet has weight 1";
            self.report(Mistake::at(raw.span(), message));
        }
        if let Some(price) = &kind.bid_price {
            self.bid_price(price, raw.span());
            if kind.bid_percent.is_some() {
                let message = "bid-price and bid-percent exclude each other";
                self.report(Mistake::at(raw.span(), message));
            }
        }
        if kind.bid_percent.is_some_and(|percent| !(1..=1000).contains(&percent)) {
            self.report(Mistake::at(raw.span(), "bid-percent is out of range: expected 1 to 1000"));
        }
        self.check_volumes(kind.ebs.iter().map(|volumes| (volumes, raw.span())));
        if kind.ebs.is_empty() {
            kind.ebs = volumes.to_vec();
        }
        kind
    }

    fn groups(&mut self, raw: &schema::Groups, profile: &schema::Profile) -> Vec<Group> {
        if let Some(second) = profile.subnets.get(1) {
            self.report(
                Mistake::at(second.span(), "groups take one subnet: EMR cannot choose for them")
                    .help("keep one, or use fleets, for which EMR chooses the best"),
            );
        }
        if let Some(task) = raw.task.as_ref().filter(|_| raw.core.is_none()) {
            self.report(Mistake::at(task.instance_type.span(), "a task group needs a core group"));
        }
        let groups = [
            (InstanceRole::Primary, Some(&raw.primary)),
            (InstanceRole::Core, raw.core.as_ref()),
            (InstanceRole::Task, raw.task.as_ref()),
        ];
        groups.into_iter().filter_map(|(role, group)| Some(self.group(role, group?))).collect()
    }

    fn group(&mut self, role: InstanceRole, raw: &schema::Group) -> Group {
        self.instance_type_name(raw.instance_type.get_ref(), raw.instance_type.span());
        let count = self.count("count", &raw.count, 1..=u32::from(u16::MAX));
        // With three primaries EMR protects the cluster from termination.
        if role == InstanceRole::Primary && count != 1 {
            self.report(Mistake::at(
                raw.count.span(),
                "a primary group has exactly 1 instance: its cluster lives for one batch",
            ));
        }
        if let Some(price) = &raw.bid_price {
            self.bid_price(price.get_ref(), price.span());
            if raw.market == Market::OnDemand {
                self.report(
                    Mistake::at(price.span(), "bid-price is for spot instances")
                        .help("add market = \"spot\""),
                );
            }
        }
        Group {
            role,
            instance_type: raw.instance_type.get_ref().clone(),
            count,
            market: raw.market,
            bid_price: raw.bid_price.as_ref().map(|price| price.get_ref().clone()),
            ebs: self.volumes(&raw.ebs),
        }
    }

    fn instance_type_name(&mut self, name: &str, span: Range<usize>) {
        let is_part = |part: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !part.is_empty() && part.chars().all(plain)
        };
        if !name.split_once('.').is_some_and(|(family, size)| is_part(family) && is_part(size)) {
            self.report(
                Mistake::at(span, format!("{name:?} is no instance type"))
                    .help("expected FAMILY.SIZE, for example m5.xlarge"),
            );
        }
    }

    fn bid_price(&mut self, price: &str, span: Range<usize>) {
        if !price.parse::<f64>().is_ok_and(|price| price.is_finite() && price > 0.0) {
            self.report(
                Mistake::at(span, format!("bid-price {price:?} is no price"))
                    .help("expected US dollars an hour, for example \"0.12\""),
            );
        }
    }

    fn volumes(&mut self, raw: &[Placed<Volumes>]) -> Vec<Volumes> {
        self.check_volumes(raw.iter().map(|volumes| (volumes.get_ref(), volumes.span())));
        raw.iter().map(|volumes| volumes.get_ref().clone()).collect()
    }

    fn check_volumes<'a>(&mut self, all: impl Iterator<Item = (&'a Volumes, Range<usize>)>) {
        let mut total = 0u32;
        for (volumes, span) in all {
            let kind = volumes.kind.as_str();
            let outside = |range: std::ops::RangeInclusive<u32>, value: Option<u32>| {
                value.is_some_and(|value| !range.contains(&value))
            };
            total = total.saturating_add(volumes.count);
            let wrong = if !VOLUME_TYPES.contains(&kind) {
                Some(format!("{kind:?} is no volume type: EMR takes {}", VOLUME_TYPES.join(", ")))
            } else if outside(1..=VOLUME_GIB_MAX, Some(volumes.size_gib)) {
                Some(format!("size-gib is {}: expected 1 to {VOLUME_GIB_MAX}", volumes.size_gib))
            } else if kind == "io1" && volumes.iops.is_none() {
                Some("an io1 volume needs iops".to_owned())
            } else if volumes.iops.is_some() && !["io1", "gp3"].contains(&kind) {
                Some(format!("iops is for gp3 and io1 volumes, not for {kind}"))
            } else if volumes.throughput.is_some() && kind != "gp3" {
                Some(format!("throughput is for gp3 volumes, not for {kind}"))
            } else if kind == "gp3" && outside(GP3_IOPS, volumes.iops) {
                Some("iops of a gp3 volume: expected 3000 to 16000".to_owned())
            } else if outside(GP3_THROUGHPUT, volumes.throughput) {
                Some("throughput of a gp3 volume: expected 125 to 1000".to_owned())
            } else if volumes.count == 0 || total > VOLUMES_MAX {
                Some(format!("an instance takes 1 to {VOLUMES_MAX} volumes"))
            } else {
                None
            };
            if let Some(wrong) = wrong {
                self.report(Mistake::at(span, wrong));
            }
        }
    }

    pub(super) fn managed_scaling(&mut self, raw: &schema::Profile) -> Option<ManagedScaling> {
        let placed = raw.managed_scaling.as_ref()?;
        let scaling = *placed.get_ref();
        if (scaling.unit == ScalingUnit::InstanceFleetUnits) == raw.groups.is_some() {
            let (what, units) = match raw.groups {
                Some(_) => ("groups", "\"instances\" or \"vcpu\""),
                None => ("fleets", "\"instance-fleet-units\""),
            };
            self.report(
                Mistake::at(placed.span(), format!("managed scaling of {what} has another unit"))
                    .help(format!("expected unit = {units}")),
            );
        }
        let within = |most: Option<u32>| most.is_none_or(|most| most <= scaling.maximum);
        if scaling.minimum == 0 || scaling.minimum > scaling.maximum {
            self.report(Mistake::at(placed.span(), "expected 1 ≤ minimum ≤ maximum"));
        }
        if !within(scaling.maximum_on_demand) || !within(scaling.maximum_core) {
            let message = "maximum-on-demand and maximum-core may not exceed maximum";
            self.report(Mistake::at(placed.span(), message));
        }
        Some(scaling)
    }
}
