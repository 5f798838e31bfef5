use std::fs;

use tempfile::TempDir;

use super::*;

const MINIMAL: &str = "[[peer]]\nurls = [\"https://api.peer.test/health\"]\n";

#[test]
fn a_minimal_file_has_good_defaults() {
    let config = parsed(MINIMAL);
    let peer = &config.peers[0];
    assert_eq!((peer.name.as_str(), peer.host.as_str()), ("api.peer.test", "api.peer.test"));
    assert_eq!((peer.level, peer.mode, peer.approvals), (Level::Observe, Mode::Follow, 1));
    assert_eq!((peer.interval.as_secs(), peer.lease.as_secs()), (10, 4 * 3600));
    assert_eq!(config.independent.len(), 3);
    assert_eq!(config.controls.len(), 3);
    assert!(config.dns.is_none() && config.application.is_none() && config.subscribers.is_empty());
    assert_eq!(config.socket.path, config.data_dir.join("ukai.sock"));
    assert!(config.warnings.iter().any(|warning| warning.message.contains("built-in controls")));
    let settings = config.settings();
    assert_eq!(settings.peers["api.peer.test"].endpoints, ["https://api.peer.test/health"]);
    assert!(settings.peers["api.peer.test"].verified_tls && !settings.serves_dns);
}

#[test]
fn every_key_is_read() {
    let dir = Files::new();
    let config = dir.parse(FULL).unwrap();
    assert_eq!(config.data_dir, dir.path("state"));
    assert_eq!(config.resolver[0].to_string(), "udp://127.0.0.53:5353");
    assert_eq!(config.root_hints, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!((config.authority_port, config.evidence_bound), (5355, Duration::from_secs(5)));
    assert_eq!(config.ca.len(), 1);
    let dns = config.dns.as_ref().unwrap();
    assert_eq!(dns.listen, ["127.0.0.1:5300".parse().unwrap(), "[::1]:5300".parse().unwrap()]);
    assert_eq!((dns.upstream.len(), dns.allow_clients.len()), (1, 1));
    assert_eq!((dns.threads, dns.cache_mib, dns.rate_limit), (Some(2), Some(16), Some(1_000)));
    assert_eq!(dns.version.as_deref(), Some("resolver of the shop"));
    let routes: Vec<_> = dns.forward.iter().map(|route| (route.domain.to_string(), route.upstreams.len())).collect();
    assert_eq!(routes, [("corp.example".to_owned(), 1), ("eu.corp.example".to_owned(), 2)]);
    assert_eq!(config.socket.group.as_deref(), Some("ukai"));
    let application = config.application.as_ref().unwrap();
    assert_eq!(application.token.expose(), "token-secret");
    assert_eq!(application.resolver.as_ref().unwrap().to_string(), "udp://127.0.0.6:5354");
    assert_eq!(config.metrics.emf, [dir.path("app.log")]);
    let target = &config.metrics.scrape[0];
    assert_eq!((target.url.as_str(), target.interval.as_secs()), ("http://127.0.0.1:9100/metrics", 15));
    assert_eq!((target.namespace.as_str(), target.keep.len()), ("Node", 2));
    assert_eq!(target.token.as_ref().unwrap().expose(), "token-secret");
    let otlp = &config.metrics.otlp;
    assert_eq!((otlp.namespace.as_str(), otlp.dimensions.as_deref().map(<[String]>::len)), ("Shop", Some(1)));
    assert_eq!(config.report_dir, dir.path("reports"));
    assert_eq!(config.controls[0].address, "127.0.0.7".parse().ok());
    let peer = config.peer("api").unwrap();
    assert_eq!((peer.level, peer.mode, peer.approvals), (Level::Approve, Mode::Pin, 2));
    assert_eq!(peer.authority[1], "127.0.0.3:5356".parse().unwrap());
    assert_eq!(peer.authority[0].port(), 5355);
    assert!(peer.expect.status.contains(299) && peer.expect.status.contains(404) && !peer.expect.status.contains(300));
    assert_eq!((peer.expect.headers.len(), peer.expect.certificate_days), (2, Some(14)));
    assert!(peer.expect.looks_at_body() && peer.unauthenticated.as_ref().unwrap().status.contains(401));
    assert_eq!((peer.resolve_timeout, peer.timeouts.transfer), (Duration::from_millis(500), Duration::from_secs(9)));
    assert!(peer.request.has_secrets() && config.settings().peers["api"].needs_secret);
    assert_eq!(config.settings().peers["api"].pin, ["127.0.0.9".parse::<IpAddr>().unwrap()]);
    let [hook, slack] = config.subscribers.as_slice() else { panic!("{:?}", config.subscribers) };
    assert_eq!(hook.kind, SubscriberKind::Webhook { secret: Some(Secret::new("token-secret")) });
    assert_eq!((slack.kind.clone(), slack.peers.contains("api")), (SubscriberKind::Slack, true));
    assert!(config.warnings.iter().all(|warning| !warning.message.contains("built-in")));
    let printed = format!("{config:?}");
    assert!(!printed.contains("token-secret"), "{printed}");
}

#[test]
fn metrics_have_defaults_and_their_mistakes_have_places() {
    let config = parsed(&format!("{MINIMAL}[[metrics.scrape]]\nurl = \"http://h/\"\n"));
    let target = &config.metrics.scrape[0];
    assert_eq!((target.namespace.as_str(), target.interval.as_secs()), ("Prometheus", 10));
    assert!(target.keep.is_empty() && target.token.is_none() && config.metrics.emf.is_empty());
    assert_eq!((config.metrics.otlp.namespace.as_str(), &config.metrics.otlp.dimensions), ("OTel", &None));
    let error = problems(&format!(
        "{MINIMAL}[metrics.otlp]\nnamespace = \":x\"\n[[metrics.emf]]\nfile = \"a\"\n[[metrics.emf]]\nfile = \"a\"\n\
         [[metrics.scrape]]\nurl = \"ftp://u:hunter2@h/\"\nkeep = [\"a*b\"]\nintervall = 1\n[[metrics.scrape]]\nurl = \"h\"\n"
    ));
    for part in [
        "ukai.toml:4:13: Namespace \":x\" is invalid",
        "ukai.toml:8:8: \"a\" is empty, or listed twice",
        "ukai.toml:10:7: a target is scraped over http or https, not ftp",
        "ukai.toml:10:7: a user name or password",
        "ukai.toml:11:9: \"a*b\" is no name",
        "ukai.toml:12:1: unknown key \"intervall\"; did you mean \"interval\"?",
        "ukai.toml:14:7: this is not a URL",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("hunter2"));
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    let error = problems(
        "resolvr = []\nevidence_bound = \"10\"\n\n[dns]\nlistn = []\nlisten = [\"localhost:53\"]\n\n[[peer]]\nurls = [\"https://api.peer.test/\", \"ftp://x/\"]\nlevel = \"aprove\"\nexpect = { statuss = [200], body_regex = \"(\" }\ninterval = \"1d\"\n",
    );
    let expected = [
        "ukai.toml:1:1: unknown key \"resolvr\"; did you mean \"resolver\"?",
        "ukai.toml:2:18: \"10\" is not a duration",
        "ukai.toml:5:1: unknown key \"listn\"; did you mean \"listen\"?",
        "ukai.toml:6:11: \"localhost:53\" is not an address to listen on",
        "ukai.toml:9:35: the scheme \"ftp\"",
        "ukai.toml:10:9: \"aprove\" is not known here; did you mean \"approve\"?",
        "ukai.toml:11:12: unknown key \"statuss\"; did you mean \"status\"?",
        "ukai.toml:11:42: the regular expression",
        "ukai.toml:12:12: \"1d\" is out of range: from \"1s\" to \"1h\"",
    ];
    let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("ukai.toml")).collect();
    assert_eq!(lines.len(), expected.len(), "{error}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn each_mistake_says_how_to_mend_it() {
    let peer = |more: &str| format!("{MINIMAL}{more}\n");
    let cases = [
        (peer("interval = 10"), "3:12: invalid type: integer `10`, expected a string"),
        (peer("interval = \"0s\""), "3:12: \"0s\" is out of range"),
        (peer("lease = \"25h\""), "at most|out of range: from \"1s\" to \"1d\""),
        (peer("approvals = 3"), "3:13: approvals is 1 or 2"),
        (peer("mode = \"pin\""), "3:8: a pin needs addresses"),
        (peer("addresses = [\"127.0.0.1\"]"), "mode = \"pin\""),
        (peer("networks = [\"10.0.0.0\"]"), "3:13: \"10.0.0.0\""),
        (peer("expect = { status = [\"6xx\"] }"), "3:22: \"6xx\" is not a status"),
        (peer("expect = { status = [true] }"), "a status is a code such as 200"),
        (peer("headers = { \"a b\" = \"c\" }"), "3:21: \"a b\" is not a header name|a b"),
        (
            peer("headers = { X = { env = \"UKAI_TEST_NEVER_SET\" } }"),
            "3:17: the environment variable UKAI_TEST_NEVER_SET is not set",
        ),
        (peer("headers = { X = { envv = \"A\" } }"), "unknown key \"envv\"; did you mean \"env\"?"),
        (
            peer("[metrics.otlp]\nnamespace = \"Ukai/Peer\""),
            "4:13: Namespace \"Ukai/Peer\" is invalid: what begins with Ukai/ is for what ukai itself measures",
        ),
        (peer("controls = \"none\""), "unknown key \"controls\"; it is a key of the top: write it above"),
        (peer("timeouts = \"3s\""), "expected a table, { KEY = VALUE }"),
        (peer("[application]\ntoken = \"t\""), "expected { env = \"NAME\" } or { file = \"PATH\" }"),
        (peer("headers = { X = {} }"), "one of the two"),
        (peer("client_certificate = { certificate = \"none.pem\", key = \"none.key\" }"), "cannot read"),
        (peer("[[peer]]\nurls = [\"https://api.peer.test/other\"]"), "already watches api.peer.test"),
        (peer("[[notify]]\nname = \"n\"\nkind = \"slak\"\nurl = \"https://h/\""), "did you mean \"slack\"?"),
        (
            peer("[[notify]]\nname = \"n\"\nkind = \"slack\"\nurl = \"https://h/\"\npeers = [\"api.peer.tes\"]"),
            "did you mean \"api.peer.test\"?",
        ),
        (peer("[[notify]]\nname = \"n\"\nkind = \"webhook\"\nurl = \"ftp://h/\""), "reached over https"),
        (peer("[[notify]]\nname = \"n\"\nkind = \"webhook\""), "missing field `url`"),
        ("[[peer]]\nurls = []".to_owned(), "2:8: a peer needs at least one URL"),
        ("[[peer]]\nurls = [\"https://a.test/\", \"https://b.test/\"]".to_owned(), "2:28: this URL is of b.test"),
        ("[[peer]]\nurls = [\"https://192.0.2.1/\"]\nlevel = \"auto\"".to_owned(), "only a name can be overridden"),
        ("[[peer]]\nname = \"a b\"\nurls = [\"https://a.test/\"]".to_owned(), "2:8: \"a b\" is not a name"),
        ("controls = \"non\"".to_owned(), "did you mean \"none\"?"),
        ("ca = \"missing.pem\"".to_owned(), "1:6: cannot read"),
        ("resolver = [\"dns.google\"]".to_owned(), "1:13:"),
        ("authority_port = 0".to_owned(), "1:18: a port"),
        ("[application]".to_owned(), "needs a token"),
        ("[dns]\nlisten = [\"127.0.0.1:53\"]\nupstream = [\"127.0.0.1\"]".to_owned(), "forward to itself"),
        (
            "[dns]\nlisten = [\"127.0.0.1:53\"]\nforward = { \"a.test\" = [\"127.0.0.1\"] }".to_owned(),
            "forward to itself",
        ),
        ("[dns]\nforward = { \"a.test\" = [] }".to_owned(), "no resolver is given for this domain"),
        ("[dns.policy_zone]\nname = \"rpz.test\"".to_owned(), "nobody could follow this zone"),
        (peer("[dns.policy_zone]\nname = \"test\"\nallow_transfer = [\"192.0.2.1/32\"]"), "api.peer.test lies in it"),
        ("[dns.policy_zone]\nname = \".\"\nallow_transfer = [\"192.0.2.1/32\"]".to_owned(), "the root is no"),
        (
            "[dns.policy_zone]\nname = \"rpz.test\"\nallow_transfer = [\"192.0.2.1/32\"]\nnotify = [\"ns.test\"]"
                .to_owned(),
            "names are not resolved",
        ),
        ("[dns]\nforward = { \"a..test\" = [\"192.0.2.1\"] }".to_owned(), "not a domain name"),
        ("[dns]\nthreads = 9".to_owned(), "a number from 1 to 8"),
        ("[dns]\ncache_mib = 0".to_owned(), "a number from 1 to 65536"),
        ("[dns]\nrate_limit = 0".to_owned(), "a number from 1 to"),
        (
            "resolver = [\"127.0.0.1\"]\n[dns]\nlisten = [\"0.0.0.0:53\"]\nupstream = [\"192.0.2.1\"]".to_owned(),
            "1:12: udp://127.0.0.1:53 is the embedded server itself",
        ),
        (peer("level = \"approve\"\n[dns]"), "4:1: set `resolver` to the servers behind"),
        (peer("level = \"auto\"\n[dns]"), "4:1: set `resolver` to the servers behind"),
        (peer("[application]\nresolver = \"dns.google\"\ntoken = { env = \"PATH\" }"), "4:12:"),
        (format!("[socket]\npath = \"/{}\"", "x".repeat(120)), "longer than 107 bytes"),
        ("[[peer]\n".to_owned(), "ukai.toml:1:"),
        ("a = 1\na = 2\n".to_owned(), "ukai.toml:2:1: duplicate key"),
    ];
    for (text, expected) in cases {
        let error = problems(&text);
        assert!(error.starts_with("ukai.toml:"), "{text}\n{error}");
        assert!(expected.split('|').any(|expected| error.contains(expected)), "{text}\n{error}\nexpected: {expected}");
    }
}

#[test]
fn a_file_without_a_peer_says_that_nothing_is_watched() {
    let said = |text: &str| parsed(text).warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said("").contains("nothing is watched, for there is no [[peer]]; write one"), "{}", said(""));
    let metrics = said("[[metrics.emf]]\nfile = \"app.log\"\n");
    assert!(metrics.contains("no peer is watched"), "{metrics}");
    assert!(!said(MINIMAL).contains("watched"), "{}", said(MINIMAL));
}

const KEY: &str = "a2V5LW9mLTMyLW9jdGV0cy1mb3ItdHNpZy10ZXN0cyE=";

/// With the key in a file, and with more in each of the tables.
fn with_zone(dir: &Files, top: &str, zone: &str, tsig: &str) -> Result<Config, ConfigError> {
    fs::write(dir.path("tsig"), format!("{KEY}\n")).unwrap();
    dir.parse(&format!(
        "{top}\n[[peer]]\nurls = [\"https://api.peer.test/\"]\nlevel = \"approve\"\n\
         [rfc2136]\nserver = \"192.0.2.53\"\nzone = \"rpz.example\"\n{zone}\n\
         tsig = {{ name = \"ukai\", secret = {{ file = \"tsig\" }}{tsig} }}\n"
    ))
}

/// A follower, and a way past it.
const WAYS: &str = "resolver = [\"192.0.2.1\"]\n[application]\ntoken_file = \"token\"\nresolver = \"192.0.2.2\"";

#[test]
fn what_is_wrong_in_one_section_is_not_missed_in_another() {
    let dir = Files::new();
    for (application, wrong) in [
        ("resolver = \"192.0.2.2\"", "needs a token"),
        ("token_file = \"token\"\nresolver = \"dns.google\"", "dns.google"),
    ] {
        let top = format!("resolver = [\"192.0.2.1\"]\n[application]\n{application}");
        let error = with_zone(&dir, &top, "", "").unwrap_err().to_string();
        assert!(error.contains(wrong) && error.lines().count() == 1, "{error}");
    }
    let same = "resolver = [\"192.0.2.2\"]\n[application]\nresolver = \"192.0.2.2\"";
    let error = with_zone(&dir, same, "", "").unwrap_err().to_string();
    assert!(error.contains("needs a token") && error.contains("no way past an override"), "{error}");
}

#[test]
fn a_policy_zone_is_read() {
    let dir = Files::new();
    let config = with_zone(&dir, WAYS, "secondaries = [\"192.0.2.54:5353\", \"2001:db8::54\"]", "").unwrap();
    let Some(ZoneSettings::Rfc2136(zone)) = &config.zone else { panic!("{:?}", config.zone) };
    assert_eq!((zone.server.to_string().as_str(), zone.zone.to_string().as_str()), ("192.0.2.53:53", "rpz.example"));
    assert_eq!((zone.key.algorithm.as_str(), zone.secondaries.len()), ("hmac-sha256", 2));
    assert!(config.settings().serves_dns);
    assert!(!format!("{config:?}").contains(KEY));
    assert_eq!(
        config.zone.as_ref().unwrap().place().unwrap().to_string(),
        "the zone rpz.example at 192.0.2.53:53",
        "leases name their place by it"
    );
}

#[test]
fn each_mistake_in_a_policy_zone_says_how_to_mend_it() {
    let dir = Files::new();
    fs::write(dir.path("short"), "c2hvcnQ=").unwrap();
    fs::write(dir.path("none"), "not base64!").unwrap();
    let cases = [
        (WAYS.to_owned(), "secondaries = [\"ns.example\"]", "", "names are not resolved"),
        (WAYS.to_owned(), "secondaries = [\"192.0.2.53\"]", "", "listed already"),
        (WAYS.to_owned(), "", ", algorithm = \"hmac-md5\"", "write hmac-sha256"),
        (WAYS.to_owned(), "port = 53", "", "unknown key \"port\""),
        (format!("{WAYS}\n[dns]"), "", "", "two places for the same overrides"),
        ("resolver = [\"192.0.2.1\"]".to_owned(), "", "", "set application.resolver"),
        (WAYS.replace("resolver = [\"192.0.2.1\"]\n", ""), "", "", "the way past an override"),
        (WAYS.replace("192.0.2.2", "192.0.2.1"), "", "", "is no way past an override"),
    ];
    for (top, zone, tsig, expected) in cases {
        let error = with_zone(&dir, &top, zone, tsig).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("ukai.toml:"), "{error}\nexpected: {expected}");
    }
    for (file, expected) in [("short", "can be guessed"), ("none", "not Base64"), ("missing", "cannot read")] {
        let text = format!(
            "{WAYS}\n[rfc2136]\nserver = \"192.0.2.53\"\nzone = \"rpz\"\ntsig = {{ name = \"k\", secret = {{ file = \"{file}\" }} }}\n"
        );
        let error = dir.parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("not base64!"), "{error}\nexpected: {expected}");
    }
}

#[test]
fn an_unbound_is_read() {
    let dir = Files::new();
    let section = "[unbound]\ncontrol = \"127.0.0.1\"\nserver_certificate = \"ca.pem\"\ncertificate = \"client.pem\"\n";
    let config = dir.parse(&format!("{WAYS}\n{section}key = \"client.key\"\n")).unwrap();
    let place = config.zone.as_ref().unwrap().place().unwrap();
    assert_eq!(place.to_string(), "Unbound's control at 127.0.0.1:8953");
    let error = dir.parse(&format!("{WAYS}\n{section}key = \"ca.pem\"\n")).unwrap_err().to_string();
    assert!(error.contains("copy unbound_control.key"), "{error}");
}

#[test]
fn columns_count_characters() {
    let error = problems("ca = \"迂回.pem\" # 迂回\n[socket]\ngroop = \"x\"\n");
    assert!(error.contains("1:6: cannot read") && error.contains("3:1: unknown key \"groop\""), "{error}");
}

#[test]
fn an_unreadable_ca_is_told_from_an_empty_one() {
    let dir = Files::new();
    fs::write(dir.path("text.pem"), "hello").unwrap();
    fs::write(dir.path("broken.pem"), "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").unwrap();
    let error = dir.parse("ca = \"text.pem\"").unwrap_err().to_string();
    assert!(error.contains("holds no PEM certificate"), "{error}");
    let error = dir.parse("ca = \"broken.pem\"").unwrap_err().to_string();
    assert!(error.contains("not a PEM bundle"), "{error}");
}

#[test]
fn no_error_prints_a_secret() {
    for text in [
        "[[peer]]\nurls = [\"https://user:hunter2@a.test/\"]",
        "[[peer]]\nurls = [\"https://a.test/\"]\nheaders = { Authorization = \"hunter2\\u0007\" }",
        "[[notify]]\nname = \"n\"\nkind = \"slack\"\nurl = \"nonsense hunter2\"",
    ] {
        let error = problems(text);
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = Config::from_urls(&["https://user:hunter2@a.test/"]).unwrap_err().to_string();
    assert!(!error.contains("hunter2") && error.contains("a.test"), "{error}");
}

#[test]
fn doubtful_things_are_warned_of() {
    let config = parsed(
        "controls = \"none\"\n[[peer]]\nurls = [\"http://a.test/\"]\nlevel = \"approve\"\nheaders = { Authorization = \"Bearer x\" }\n[socket]\ngroup = \"ukai\"\n",
    );
    let warnings: Vec<String> = config.warnings.iter().map(Problem::to_string).collect();
    for expected in
        ["without controls", "without TLS", "secret stands in the file", "needs secrets", "cannot reach a socket"]
    {
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{expected}: {warnings:#?}");
    }
    assert!(warnings.iter().all(|warning| warning.starts_with("ukai.toml:")), "{warnings:#?}");
}

#[test]
fn the_way_past_an_override_is_written_where_there_can_be_one() {
    let dns = |level: &str| format!("{MINIMAL}level = \"{level}\"\n[dns]\n");
    for level in ["observe", "propose"] {
        let warned = parsed(&dns(level)).warnings.iter().any(|warning| warning.message.contains("set `resolver`"));
        assert!(warned, "{level}");
    }
    for level in ["observe", "auto"] {
        let config = parsed(&format!("resolver = [\"192.0.2.53\"]\n{}", dns(level)));
        assert!(config.warnings.iter().all(|warning| !warning.message.contains("set `resolver`")), "{level}");
    }
}

#[test]
fn an_address_that_may_not_be_contacted_is_warned_of() {
    let warns = |more: &str, url: &str| {
        let config = parsed(&format!("{more}\n[[peer]]\nurls = [\"{url}\"]"));
        config.warnings.iter().any(|warning| warning.to_string().contains("3:8: 127.0.0.1 is not a public address"))
    };
    assert!(warns("", "https://127.0.0.1/"));
    assert!(!warns("allow_addresses = [\"127.0.0.0/8\"]", "https://127.0.0.1/"));
    assert!(!warns("", "https://api.peer.test/"));
}

#[test]
fn urls_alone_are_a_configuration() {
    let config =
        Config::from_urls(&["https://API.peer.test/a", "tls://mail.test:993", "https://api.peer.test/b"]).unwrap();
    assert_eq!(config.peers.len(), 2);
    assert_eq!(config.peer("api.peer.test").unwrap().endpoints.len(), 2);
    assert!(config.peers.iter().all(|peer| peer.level == Level::Observe));
    assert!(config.dns.is_none() && config.subscribers.is_empty());
    assert!(Config::from_urls::<&str>(&[]).is_err());
    assert!(Config::from_urls(&["api.peer.test"]).unwrap_err().to_string().contains("scheme"));
}

#[test]
fn international_hosts_become_a_labels() {
    assert_eq!(parsed("[[peer]]\nurls = [\"https://Bücher.test/\"]").peers[0].host, "xn--bcher-kva.test");
}

#[test]
fn the_template_is_read_back() {
    for url in ["https://api.peer.test/health?a=\\\"b", "tcp://db.peer.test:5432"] {
        let text = template(url).unwrap();
        let config = parsed(&text);
        assert_eq!(config.peers.len(), 1);
        assert_eq!(config.peers[0].level, Level::Observe);
        assert_eq!(config.peers[0].endpoints[0], Endpoint::parse(url).unwrap());
    }
    assert!(template("nonsense").is_err());
}

/// What the template shows commented out is what the file takes.
#[test]
fn what_the_template_comments_out_is_known() {
    let text = template("https://api.peer.test/").unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let error = problems(&uncommented);
    assert!(!error.contains("unknown key"), "{error}");
    for line in error.lines() {
        assert!(["environment", "cannot read"].iter().any(|missing| line.contains(missing)), "{line}");
    }
}

#[test]
fn the_schema_knows_every_key_and_describes_it() {
    let schema = json_schema();
    assert_eq!(schema["title"], "ukai.toml");
    let properties = schema["properties"].as_object().unwrap();
    for key in ["data_dir", "resolver", "peer", "notify", "dns", "control"] {
        assert!(properties.contains_key(key), "{key}");
    }
    let expect = &schema["$defs"]["Expect"]["properties"];
    assert!(expect["status"]["description"].as_str().unwrap().contains("Default"));
    assert_eq!(schema["$defs"]["Peer"]["properties"]["level"]["enum"][2], "approve");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/ukai.toml")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/ukai.toml"), "{error}");
}

fn is_toml(text: &str) -> bool {
    text.starts_with('[')
        || text.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

fn parsed(text: &str) -> Config {
    Config::parse(text, Path::new("ukai.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn problems(text: &str) -> String {
    Config::parse(text, Path::new("ukai.toml")).unwrap_err().to_string()
}

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("client.pem"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("client.key"), made.signing_key.serialize_pem()).unwrap();
        fs::write(dir.path().join("token"), "token-secret\n").unwrap();
        fs::write(dir.path().join("slack-url"), "https://hooks.slack.test/services/x").unwrap();
        Files(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, &self.path("ukai.toml"))
    }
}

const FULL: &str = r#"
data_dir = "state"
resolver = ["127.0.0.53:5353"]
root_hints = ["127.0.0.1"]
authority_port = 5355
ca = "ca.pem"
allow_addresses = ["127.0.0.0/8", "::1/128"]
independent = ["tls://127.0.0.2#i-2.test"]
evidence_bound = "5s"

[dns]
listen = ["127.0.0.1:5300", "[::1]:5300"]
upstream = ["tcp://127.0.0.4"]
allow_clients = ["127.0.0.0/8"]
forward = { "corp.example" = ["127.0.0.5"], "eu.corp.example" = ["tls://127.0.0.6#ns.test", "127.0.0.7"] }
threads = 2
cache_mib = 16
rate_limit = 1000
version = "resolver of the shop"

[socket]
path = "/tmp/ukai-test.sock"
group = "ukai"

[application]
listen = "127.0.0.1:7071"
token_file = "token"
resolver = "127.0.0.6:5354"

[report]
dir = "reports"

[[control]]
url = "https://control-1.test:8443/"
address = "127.0.0.7"

[[control]]
url = "https://control-2.test:8443/"

[[metrics.emf]]
file = "app.log"

[[metrics.scrape]]
url = "http://127.0.0.1:9100/metrics"
interval = "15s"
namespace = "Node"
keep = ["node_load1", "node_network_*"]
token = { file = "token" }

[metrics.otlp]
namespace = "Shop"
dimensions = ["service.name"]

[[peer]]
name = "api"
urls = ["https://api.peer.test:8443/health", "tls://api.peer.test:993"]
interval = "1s"
level = "approve"
approvals = 2
lease = "15m"
mode = "pin"
addresses = ["127.0.0.9"]
networks = ["127.1.0.0/16"]
authority = ["127.0.0.3", "127.0.0.3:5356"]
headers = { Authorization = { file = "token" }, Accept = "application/json" }
client_certificate = { certificate = "client.pem", key = "client.key" }
timeouts = { resolve = "500ms", connect = "1s", tls = "1s", processing = "2s", transfer = "9s" }
ca = "ca.pem"

[peer.expect]
status = ["2xx", 404, "500-503"]
headers = { Server = "peer", Date = { regex = "GMT$" } }
body_contains = "ok"
body_regex = "o.?k"
body_json = { path = "$.status", equals = "ok" }
max_time = "2s"
certificate_days = 14
address_ranges = ["127.0.0.0/8"]

[peer.unauthenticated]
status = [401]

[[notify]]
name = "hook"
kind = "webhook"
url = "http://127.0.0.1:8080/hook"
secret = { file = "token" }

[[notify]]
name = "team"
kind = "slack"
url = { file = "slack-url" }
peers = ["api"]
"#;
