//! What a scenario says must be concluded; what it does not state is not checked.

use super::reader::{Field, Result, Section, UseKind, nearest};
use super::world_keys::read_labels;

/// The diagnosis codes of the catalogue of outages.
pub const VERDICTS: [&str; 39] = [
    "stale_resolver",
    "ttl_violation",
    "stale_resolver_transient",
    "negative_cache",
    "client_pinned",
    "peer_down",
    "peer_http",
    "partial_address",
    "v6_path",
    "own_v6",
    "suspect_hijack",
    "identity_discontinuity",
    "parked",
    "rebinding",
    "geo_steered",
    "rotating",
    "path_or_pop",
    "own_egress",
    "own_resolver",
    "peer_cert",
    "clock_skew",
    "dnssec_bogus",
    "rate_limited",
    "blocked_us",
    "override_stale",
    "override_blast",
    "peer_dns_empty",
    "delegation_removed",
    "lame_delegation",
    "dangling_cname",
    "intercepted",
    "mtu",
    "tls_policy",
    "probe_error",
    "auth",
    "conn_reuse",
    "peer_region",
    "own_firewall",
    "dns_intercepted",
];

/// In a list of verdicts: that none is given.
pub const NO_VERDICT: &str = "none";

/// Lists mean "any of these is right"; an empty list means that nothing is stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    pub verdict: Vec<String>,
    pub sure: Vec<Sure>,
    pub action: Vec<Action>,
    pub mode: Option<Mode>,
    /// The guard's own name, as the refusal gives it.
    pub refused_by: Option<String>,
    pub serves: Option<Vec<String>>,
    pub page: Option<bool>,
    pub app_recovers: Option<bool>,
    pub app_never_reaches: Vec<String>,
    pub no_secret_to: Vec<String>,
    pub after_heal: Option<AfterHeal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sure {
    Proven,
    Likely,
    Open,
}

impl Sure {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Likely => "likely",
            Self::Open => "open",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Override,
    None,
    Refuse,
    Revert,
    Escalate,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::None => "none",
            Self::Refuse => "refuse",
            Self::Revert => "revert",
            Self::Escalate => "escalate",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Follow,
    Pin,
    Forward,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::Pin => "pin",
            Self::Forward => "forward",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AfterHeal {
    pub reverted: Option<bool>,
    /// `residue = "none"` was stated.
    pub no_residue: bool,
    pub app_recovers: Option<bool>,
}

pub(super) fn read_expect(section: &Section<'_>) -> Result<Expect> {
    section.only(&[
        "verdict",
        "sure",
        "action",
        "mode",
        "refused_by",
        "serves",
        "page",
        "app_recovers",
        "app_never_reaches",
        "no_secret_to",
        "after_heal",
    ])?;
    let labels = |key: &str| section.find(key).map(|field| read_labels(&field, UseKind::Host)).transpose();
    let flag = |key: &str| section.find(key).map(|field| field.flag()).transpose();
    Ok(Expect {
        verdict: any_of(section, "verdict", read_verdict)?,
        sure: any_of(section, "sure", |field| {
            field.choice(&[("proven", Sure::Proven), ("likely", Sure::Likely), ("open", Sure::Open)])
        })?,
        action: any_of(section, "action", read_action)?,
        mode: section
            .find("mode")
            .map(|field| field.choice(&[("follow", Mode::Follow), ("pin", Mode::Pin), ("forward", Mode::Forward)]))
            .transpose()?,
        refused_by: section.find("refused_by").map(|field| field.text().map(str::to_owned)).transpose()?,
        serves: labels("serves")?,
        page: flag("page")?,
        app_recovers: flag("app_recovers")?,
        app_never_reaches: labels("app_never_reaches")?.unwrap_or_default(),
        no_secret_to: labels("no_secret_to")?.unwrap_or_default(),
        after_heal: section.find("after_heal").map(|field| read_after_heal(&field.section()?)).transpose()?,
    })
}

fn any_of<T>(section: &Section<'_>, key: &str, read: impl Fn(&Field<'_>) -> Result<T>) -> Result<Vec<T>> {
    match section.find(key) {
        Some(field) => {
            let items = field.one_or_many()?;
            if items.is_empty() {
                return Err(field.error("an empty list allows nothing; leave the key out instead"));
            }
            items.iter().map(read).collect()
        }
        None => Ok(Vec::new()),
    }
}

fn read_verdict(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    if VERDICTS.contains(&text) || text == NO_VERDICT {
        return Ok(text.to_owned());
    }
    let mut error = field.error(format!("\"{text}\" is not a diagnosis code of the catalogue"));
    error.nearest = nearest(text, VERDICTS.into_iter().chain([NO_VERDICT]));
    Err(error)
}

fn read_action(field: &Field<'_>) -> Result<Action> {
    field.choice(&[
        ("override", Action::Override),
        ("none", Action::None),
        ("refuse", Action::Refuse),
        ("revert", Action::Revert),
        ("escalate", Action::Escalate),
    ])
}

fn read_after_heal(section: &Section<'_>) -> Result<AfterHeal> {
    section.only(&["reverted", "residue", "app_recovers"])?;
    Ok(AfterHeal {
        reverted: section.find("reverted").map(|field| field.flag()).transpose()?,
        no_residue: section.find("residue").map(|field| field.choice(&[("none", true)])).transpose()?.unwrap_or(false),
        app_recovers: section.find("app_recovers").map(|field| field.flag()).transpose()?,
    })
}
