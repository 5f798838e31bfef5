//! What must be recommended for each cause: the catalogue's own word, kept apart from the product's table.

use crate::scenario::Action;

const OVERRIDE: &str = "override";

/// Diagnosis code, and the options of which one must be recommended.
const ADVICE: &[(&str, &[&str])] = &[
    ("stale_resolver", &["override"]),
    ("ttl_violation", &["override"]),
    ("stale_resolver_transient", &["override"]),
    ("negative_cache", &["wait", "override"]),
    ("client_pinned", &["recycle_clients"]),
    ("peer_down", &["wait"]),
    ("peer_http", &["wait"]),
    ("partial_address", &["wait"]),
    ("v6_path", &["wait"]),
    ("own_v6", &["fix_own_network"]),
    ("suspect_hijack", &["ask_peer"]),
    ("identity_discontinuity", &["ask_peer"]),
    ("parked", &["ask_peer"]),
    ("rebinding", &["ask_peer"]),
    ("geo_steered", &["wait"]),
    ("rotating", &["wait"]),
    ("path_or_pop", &["ask_peer"]),
    ("own_egress", &["fix_own_network"]),
    ("own_resolver", &["switch_resolver"]),
    ("peer_cert", &["ask_peer"]),
    ("clock_skew", &["fix_clock"]),
    ("dnssec_bogus", &["ask_peer"]),
    ("rate_limited", &["fix_application"]),
    ("blocked_us", &["ask_peer"]),
    ("override_stale", &["revert"]),
    ("override_blast", &["revert"]),
    ("peer_dns_empty", &["ask_peer"]),
    ("delegation_removed", &["ask_peer"]),
    ("lame_delegation", &["ask_peer"]),
    ("dangling_cname", &["ask_peer"]),
    ("intercepted", &["fix_own_network"]),
    ("mtu", &["fix_own_network"]),
    ("tls_policy", &["fix_application"]),
    ("probe_error", &["fix_application"]),
    ("auth", &["fix_application"]),
    ("conn_reuse", &["fix_application"]),
    ("peer_region", &["alternate_endpoint"]),
    ("own_firewall", &["fix_own_network"]),
    ("dns_intercepted", &["fix_own_network"]),
];

/// Where a code has two right answers, what the file wants done tells which of them it is.
pub fn advised(code: &str, wanted: &[Action]) -> Vec<&'static str> {
    let known = ADVICE.iter().find(|(known, _)| *known == code);
    let mut options = known.map_or(Vec::new(), |(_, options)| options.to_vec());
    if options.len() > 1 && !wanted.is_empty() {
        let override_only = wanted == [Action::Override];
        let no_override = !wanted.contains(&Action::Override);
        options.retain(|option| if *option == OVERRIDE { !no_override } else { !override_only });
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::VERDICTS;

    #[test]
    fn every_code_of_the_catalogue_has_its_advice() {
        let known: Vec<&str> = ADVICE.iter().map(|(code, _)| *code).collect();
        assert_eq!(known, VERDICTS);
        assert!(ADVICE.iter().all(|(_, options)| !options.is_empty()));
    }

    #[test]
    fn whether_to_wait_or_to_override_is_for_the_file_to_say() {
        assert_eq!(advised("negative_cache", &[Action::None]), ["wait"]);
        assert_eq!(advised("negative_cache", &[Action::Override]), ["override"]);
        assert_eq!(advised("negative_cache", &[]), ["wait", "override"]);
        assert_eq!(advised("stale_resolver", &[Action::Escalate]), ["override"]);
    }
}
