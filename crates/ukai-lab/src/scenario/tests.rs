use std::time::Duration;

use super::*;

const PAGE_EXAMPLE: &str = r#"
id = "S01"
title = "Resolver stale after the peer's addresses changed"
story = "…"                                   # shown when the drill starts

[peer]
url = "https://api.peer.test/health"          # names under .test; the lab fills in the port
interval = "1s"                               # everything not given takes the product's defaults

[policy]
level = "approve"                             # observe | propose | approve | auto
[[operator]]
on = "proposed"
wait = "1s"
does = "approve"                              # through the real CLI socket, as a person would

[world]                                       # before anything breaks
authoritative = { A = ["old-1"], ttl = 2 }    # labels name lab hosts; the lab gives them addresses
hosts.old-1 = "serve"
hosts.new-1 = "serve"
resolver = "honest"

[[fault]]
at = "5s"
authoritative = { A = ["new-1"], ttl = 2 }
hosts.old-1 = "blackhole"
resolver = "stale"                            # goes on answering what it knew, past its TTL

[[heal]]
at = "30s"
resolver = "honest"

[expect]
verdict = "stale_resolver"
sure = "proven"
action = "override"
mode = "follow"
serves = ["new-1"]
page = true
app_recovers = true

[expect.after_heal]
reverted = true
residue = "none"
"#;

/// A scenario with `lines` in it, which stand from line 5 on.
fn with(lines: &str) -> String {
    format!(
        "id = \"T\"\ntitle = \"t\"\npeer.url = \"https://api.peer.test/health\"\nworld.hosts.old-1 = \"serve\"\n{lines}"
    )
}

fn parse(lines: &str) -> Scenario {
    Scenario::parse(&with(lines), "t.toml").unwrap()
}

fn complaint(lines: &str) -> String {
    Scenario::parse(&with(lines), "t.toml").unwrap_err().to_string()
}

#[test]
fn the_example_of_the_format_page_is_read() {
    let scenario = Scenario::parse(PAGE_EXAMPLE, "s01.toml").unwrap();
    assert_eq!(scenario.id, "S01");
    assert_eq!(scenario.host(), "api.peer.test");
    assert_eq!(scenario.peer.interval, Some(Duration::from_secs(1)));
    assert_eq!(scenario.policy.level, Some(Level::Approve));
    assert_eq!(
        scenario.operators,
        [Operator { on: Moment::Proposed, wait: Duration::from_secs(1), does: Deed::Approve, who: Person::A }]
    );
    assert_eq!(scenario.faults.len(), 1);
    assert_eq!(scenario.faults[0].at, Duration::from_secs(5));
    assert_eq!(scenario.faults[0].change.resolver.as_ref().map(|setup| &setup.mode), Some(&ResolverMode::Stale));
    assert_eq!(scenario.expect.verdict, ["stale_resolver"]);
    assert_eq!(scenario.expect.sure, [Sure::Proven]);
    assert_eq!(scenario.expect.action, [Action::Override]);
    assert_eq!(scenario.expect.serves.as_deref(), Some(["new-1".to_owned()].as_slice()));
    let after = scenario.expect.after_heal.unwrap();
    assert!(after.no_residue && after.reverted == Some(true) && after.app_recovers.is_none());
}

#[test]
fn a_fault_changes_what_it_names_and_nothing_else() {
    let scenario = Scenario::parse(PAGE_EXAMPLE, "s01.toml").unwrap();
    let mut state = scenario.initial_state();
    assert_eq!(state.hosts["old-1"].us, HostBehaviour::Serve);
    scenario.faults[0].change.apply_to(&mut state);
    assert_eq!(state.hosts["old-1"].us, HostBehaviour::Blackhole);
    assert_eq!(state.hosts["new-1"].us, HostBehaviour::Serve);
    assert_eq!(state.egress, Egress::Ok);
    scenario.heals[0].change.apply_to(&mut state);
    assert_eq!(state.resolver.mode, ResolverMode::Honest);
    assert_eq!(state.hosts["old-1"].us, HostBehaviour::Blackhole);
}

#[test]
fn a_record_set_replaces_the_one_before_and_keeps_its_times() {
    let scenario = parse(
        "world.authoritative = { A = [\"old-1\"], TXT = \"v=1\", ttl = 7, negative_ttl = 9 }\n[[fault]]\nat = \"1s\"\nauthoritative = {}\n",
    );
    let mut state = scenario.initial_state();
    scenario.faults[0].change.apply_to(&mut state);
    assert_eq!((state.authoritative.ttl, state.authoritative.negative_ttl), (7, 9));
    let Records::Table(table) = &state.authoritative.records else { panic!("not NODATA") };
    assert!(table.a.is_empty() && table.txt.is_empty());
}

#[test]
fn every_world_key_is_read() {
    let scenario = parse(
        r#"
[world]
authoritative = { A = ["old-1"], AAAA = ["six"], HTTPS = ["old-1"], TXT = ["a", "b"], MX = "mail.peer.test", ttl = 5, rotate = true, signed = "valid" }
servers.ns-2 = "old-serial"
servers.evil-ns = { A = ["evil-1"], ttl = 3 }
parent = { ns = ["ns-1", "evil-ns"] }
names."x.api.peer.test" = { CNAME = "Api.Peer.Test." }
names."peer.test" = "nxdomain"
resolver = { mode = "ttl-clamp-300", udp = "truncate", tcp = "blocked" }
independent.i-1 = "hijack:evil-1"
independent.i-3 = "private:10.0.0.1"
hosts.old-1 = { us = "status-503", others = "serve" }
hosts.evil-1 = { us = "parked", net = "b" }
hosts.six = { v6 = true }
hosts.inside = { private = true }
hosts.odd = "stall-after-900-bytes"
controls = "names-fail"
egress = { allow = ["old-1"] }
clock = "-1h30m"
provider = { foreign_edit = ["evil-1"] }
daemon = "kill"
vantages = 2
"#
        .replace("[world]\n", "")
        .lines()
        .filter(|line| !line.is_empty())
        .fold(String::new(), |text, line| {
            if line.starts_with("hosts.old-1") { text } else { format!("{text}world.{line}\n") }
        })
        .as_str(),
    );
    let state = scenario.initial_state();
    assert_eq!(state.delegation(), ["ns-1", "evil-ns"]);
    assert_eq!(*state.server("ns-2"), ServerMode::OldSerial);
    assert!(matches!(state.server("evil-ns"), ServerMode::Own(table) if table.ttl == Some(3)));
    assert_eq!(
        state.resolver,
        ResolverSetup { mode: ResolverMode::TtlClamp(300), truncate_udp: true, block_tcp: true }
    );
    assert_eq!(state.independent("i-1").mode, ResolverMode::Hijack("evil-1".to_owned()));
    assert_eq!(state.independent("i-2").mode, ResolverMode::Honest);
    assert_eq!(state.hosts["evil-1"].network, Network::B);
    assert_eq!(state.hosts["odd"].us, HostBehaviour::StallAfter(900));
    assert!(state.hosts["six"].v6 && state.hosts["inside"].private);
    assert_eq!(state.egress, Egress::Allow(vec!["old-1".to_owned()]));
    assert_eq!(state.clock, ClockShift(-5_400));
    assert_eq!(state.provider, Provider::ForeignEdit(vec!["evil-1".to_owned()]));
    assert_eq!((scenario.world.daemon, state.vantages), (Some(DaemonSignal::Kill), 2));
    let Records::Table(alias) = &state.names["x.api.peer.test"].records else { panic!("no table") };
    assert_eq!(alias.cname.as_deref(), Some("api.peer.test"));
}

#[test]
fn every_host_behaviour_is_read_and_written_alike() {
    for word in [
        "serve",
        "refuse",
        "blackhole",
        "reset",
        "tls-stall",
        "tls-wrong-name",
        "tls-expired",
        "tls-not-yet-valid",
        "tls-self-signed",
        "tls-new-key",
        "tls-new-issuer",
        "tls-default-cert",
        "tls-old-version",
        "status-503",
        "retry-after-30",
        "slow-4s",
        "flaky-0.25",
        "wrong-body",
        "parked",
        "cut-body",
        "goaway",
        "stall-after-10-bytes",
    ] {
        let scenario = parse(&format!("world.hosts.x = \"{word}\"\n"));
        assert_eq!(scenario.initial_state().hosts["x"].us.to_string(), word);
    }
}

#[test]
fn a_share_may_be_a_percentage_and_an_exchange_may_have_a_preference() {
    let scenario = parse("world.hosts.x = \"flaky-25\"\n");
    assert_eq!(scenario.initial_state().hosts["x"].us.to_string(), "flaky-0.25");
    let mail = |text: &str| format!("world.authoritative = {{ MX = [\"{text}\"] }}\n");
    for text in ["mail.peer.test", "10 mail.peer.test.", "0 mail.peer.test"] {
        let scenario = parse(&mail(text));
        let Records::Table(table) = &scenario.initial_state().authoritative.records else { panic!("{text}") };
        assert_eq!(table.mx, ["mail.peer.test"]);
    }
    assert_eq!(
        complaint(&mail("first mail.peer.test")),
        "t.toml:5:31: \"first\" is not a preference, a number up to 65535"
    );
}

#[test]
fn unknown_keys_are_refused_where_they_stand_with_the_nearest_known_one() {
    assert_eq!(
        complaint("world.resolvr = \"honest\"\n"),
        "t.toml:5:7: unknown key \"resolvr\" in world; did you mean \"resolver\"?"
    );
    assert_eq!(complaint("\n[wrold]\n"), "t.toml:6:2: unknown key \"wrold\"; did you mean \"world\"?");
    assert_eq!(
        complaint("[[fault]]\nat = \"1s\"\negres = \"cut\"\n"),
        "t.toml:7:1: unknown key \"egres\" in [fault]; did you mean \"egress\"?"
    );
    assert_eq!(
        complaint("world.authoritative = { AAA = [] }\n"),
        "t.toml:5:25: unknown key \"AAA\" in world.authoritative; did you mean \"AAAA\"?"
    );
}

#[test]
fn unknown_values_are_refused_where_they_stand_with_the_nearest_known_one() {
    assert_eq!(
        complaint("world.hosts.x = \"blackhol\"\n"),
        "t.toml:5:17: unknown value \"blackhol\" for world.hosts.x; did you mean \"blackhole\"?"
    );
    assert_eq!(
        complaint("world.resolver = \"stael\"\n"),
        "t.toml:5:18: unknown value \"stael\" for world.resolver; did you mean \"stale\"?"
    );
    assert_eq!(
        complaint("policy.level = \"aprove\"\n"),
        "t.toml:5:16: unknown value \"aprove\" for policy.level; did you mean \"approve\"?"
    );
    assert_eq!(
        complaint("expect.verdict = [\"peer_down\", \"stale_resolvr\"]\n"),
        "t.toml:5:32: \"stale_resolvr\" is not a diagnosis code of the catalogue; did you mean \"stale_resolver\"?"
    );
    assert!(complaint("expect.verdict = \"open\"\n").starts_with("t.toml:5:18: \"open\" is not a diagnosis code"));
    for value in
        ["status-99", "status-x", "slow-4", "flaky-1.5", "flaky-101", "retry-after-", "stall-after-x-bytes", "hijack"]
    {
        assert!(
            complaint(&format!("world.hosts.x = \"{value}\"\n")).starts_with("t.toml:5:17: unknown value"),
            "{value}"
        );
    }
}

#[test]
fn what_is_missing_or_of_the_wrong_kind_is_said_with_its_place() {
    assert_eq!(complaint("[[fault]]\nresolver = \"stale\"\n"), "t.toml:5:1: [[fault]] has no \"at\"");
    assert_eq!(
        complaint("[[fault]]\nat = \"5 seconds\"\n"),
        "t.toml:6:6: \"5 seconds\" is not a duration such as \"500ms\", \"5s\", \"15m\" or \"4h\""
    );
    assert_eq!(complaint("[[fault]]\nat = 5\n"), "t.toml:6:6: [fault].at takes text in quotes, not integer");
    assert_eq!(complaint("expect.page = \"yes\"\n"), "t.toml:5:15: expect.page takes true or false, not string");
    assert_eq!(complaint("policy.approvals = 3\n"), "t.toml:5:20: policy.approvals must be between 1 and 2");
    assert_eq!(complaint("[fault]\nat = \"1s\"\n"), "t.toml:5:2: fault is a list of tables: write [[fault]]");
    assert!(complaint("[world\n").starts_with("t.toml:5:"));
    assert!(complaint("id = \"again\"\n").starts_with("t.toml:5:1: duplicate key"));
    let no_title = Scenario::parse("id = \"x\"\n", "t.toml").unwrap_err();
    assert_eq!(no_title.to_string(), "t.toml:1:1: the scenario has no \"title\"");
}

#[test]
fn names_that_name_nothing_are_refused() {
    assert_eq!(
        complaint("world.authoritative = { A = [\"old-1\", \"old-2\"] }\n"),
        "t.toml:5:39: host \"old-2\" is never given a behaviour; did you mean \"old-1\"?"
    );
    assert_eq!(
        complaint("expect.serves = [\"nowhere\"]\n"),
        "t.toml:5:18: host \"nowhere\" is never given a behaviour"
    );
    assert_eq!(
        complaint("world.parent = { ns = [\"ns-1\", \"ns-9\"] }\n"),
        "t.toml:5:32: name server \"ns-9\" is never given anything to serve; did you mean \"ns-1\"?"
    );
    assert_eq!(
        complaint("world.resolver = \"hijack:evil-1\"\n"),
        "t.toml:5:18: host \"evil-1\" is never given a behaviour"
    );
    assert!(complaint("world.independent.i-4 = \"honest\"\n").starts_with("t.toml:5:19: unknown independent resolver"));
}

#[test]
fn addresses_are_of_the_family_and_place_that_the_host_has() {
    assert_eq!(
        complaint("world.hosts.six = { v6 = true }\nworld.authoritative = { A = [\"six\"] }\n"),
        "t.toml:6:30: host \"six\" is an IPv6 host; it belongs in AAAA"
    );
    assert_eq!(
        complaint("world.authoritative = { AAAA = [\"old-1\"] }\n"),
        "t.toml:5:33: host \"old-1\" is not an IPv6 host; give it v6 = true"
    );
    assert!(
        complaint("world.hosts.a = { v6 = true }\nworld.hosts.b = { v6 = true }\n")
            .starts_with("t.toml:6:13: one IPv6 host")
    );
    assert!(
        complaint("[[fault]]\nat = \"1s\"\nhosts.old-1 = { net = \"b\" }\n")
            .starts_with("t.toml:7:7: host \"old-1\" cannot move")
    );
}

#[test]
fn the_peer_is_under_test_and_without_a_port() {
    let peer = |line: &str| {
        let text = format!("id = \"T\"\ntitle = \"t\"\n[world]\n[peer]\n{line}\n");
        Scenario::parse(&text, "t.toml").unwrap_err().to_string()
    };
    assert_eq!(peer("url = \"https://api.example.com/\""), "t.toml:5:7: \"api.example.com\" is not a name under .test");
    assert_eq!(peer("url = \"https://api.peer.test:8443/\""), "t.toml:5:7: the lab fills in the port; leave it out");
    assert!(peer("url = \"api.peer.test\"").starts_with("t.toml:5:7: \"api.peer.test\" is not a URL"));
    assert_eq!(
        peer("url = \"https://api.peer.test/\"\nsteered = true"),
        "t.toml:6:1: \"steered\" is never given: ukai must find out"
    );
    assert_eq!(
        peer("url = \"https://api.peer.test/\"\nalso = [\"https://www.peer.test/\"]"),
        "t.toml:6:9: \"also\" holds more endpoints of api.peer.test"
    );
}

#[test]
fn without_tls_the_url_is_http_and_no_host_has_a_tls_fault() {
    let scenario = parse("peer.tls = false\n");
    assert_eq!(scenario.peer.url.as_str(), "http://api.peer.test/health");
    assert_eq!(
        complaint("peer.tls = false\nworld.hosts.x = \"tls-expired\"\n"),
        "t.toml:6:13: host \"x\" has a TLS fault, and the peer has no TLS"
    );
}
