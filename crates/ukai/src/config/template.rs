//! The `ukai.toml` that `ukai init` writes.

use ukai_probe::{Endpoint, EndpointError};

/// A complete, commented file that watches `url` and changes nothing. Keys that are commented out show their default.
pub fn template(url: &str) -> Result<String, EndpointError> {
    let endpoint = Endpoint::parse(url)?;
    let host = endpoint.host();
    Ok(TEMPLATE.replace("{URL}", &quoted(url)).replace("{NAME}", &quoted(&host)).replace("{HOST}", &host))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

const TEMPLATE: &str = r##"# ukai watches services that you depend on, says which layer broke, and can lead
# your application around the damage by changing how one name resolves.
# This file as it stands only watches and explains; it changes nothing.
# All keys: `ukai config schema`. After a change: kill -HUP, or `ukai reload`.

# Where the log, the overrides and the reports are kept.
# Default: $XDG_STATE_HOME/ukai, else ~/.local/state/ukai; /var/lib/ukai for root.
# data_dir = "/var/lib/ukai"

# What your application's network resolves with. Default: /etc/resolv.conf.
# resolver = ["127.0.0.53"]

# Resolvers that share nothing with yours, asked for evidence.
# independent = ["tls://1.1.1.1#cloudflare-dns.com", "tls://9.9.9.9#dns.quad9.net", "https://8.8.8.8/dns-query#dns.google"]

# Networks on whose behalf name servers are asked too, to tell a steered name from a lie.
# ecs_subnets = ["193.0.6.0/24", "202.12.29.0/24"]

# Our clock is compared with this one when evidence is gathered. Default: none.
# time_server = "192.0.2.123"

# A PEM bundle that is trusted besides the machine's own trust store.
# ca = "corp-ca.pem"

# Private networks that may be contacted and served.
# allow_addresses = ["10.0.0.0/8"]

# Unrelated sites are probed with the evidence, to tell your own fault from a peer's.
# Three are built in; `controls = "none"` switches them off, or list your own:
# [[control]]
# url = "https://status.example.com/"
# address = "192.0.2.10"

[[peer]]
name = {NAME}
# All URLs of one host: https://, http://, tls://HOST:PORT or tcp://HOST:PORT.
urls = [{URL}]
# interval = "10s"

# How far ukai may go, a rung at a time:
#   observe  says what is wrong and what it would do
#   propose  prints the exact change and its inverse
#   approve  makes the change that a person approved
#   auto     makes the change by itself, for proven diagnoses only
level = "observe"
# approvals = 1          # 2: two different persons
# lease = "4h"           # an override ends by itself after this
# networks = ["192.0.2.0/24"]    # the peer's own networks, where you know them

# What a good answer looks like.
# expect = { status = ["200-399"], max_time = "2s", certificate_days = 14 }

# Secrets come from the environment or a file, and are sent to nobody who has
# not proved to be the peer.
# headers = { Authorization = { env = "PEER_TOKEN" } }
# unauthenticated = { status = [401] }

# The embedded DNS server: needed for `approve` and `auto`. Let your resolver
# send it {HOST}, with the world as fallback, and write in `resolver` above what
# your resolver itself asks, so that ukai can see past its own override.
# [dns]
# listen = ["127.0.0.1:5300"]

# The command line talks to the daemon here. A group needs a path outside data_dir.
# [socket]
# path = "/run/ukai/ukai.sock"
# group = "ukai"

# Your application says how its calls went, so that a detour can be confirmed.
# [application]
# listen = "127.0.0.1:7070"
# token = { file = "application-token" }
# resolver = "127.0.0.53"   # what it asks itself, if that is led to ours

# What your application itself sees, so that alarms can watch it. The listener above
# takes OTLP (/v1/metrics), EMF lines (/v1/emf) and PutMetricData (/v1/metric-data)
# with its token.
# [[metrics.emf]]
# file = "/var/log/app.log"     # lines of CloudWatch's embedded metric format
# [[metrics.scrape]]
# url = "http://127.0.0.1:9100/metrics"
# interval = "10s"
# keep = ["http_requests_*"]    # default: everything
# [metrics.otlp]
# namespace = "OTel"

# Who is told.
# [[notify]]
# name = "on-call"
# kind = "slack"         # or "webhook"
# url = { env = "SLACK_WEBHOOK_URL" }
"##;
