//! `ukai.toml`, version 1: the file as it is written.
//!
//! The JSON Schema and the reference page come from these types, so each key says its unit and its default here.
//! What a value means is checked where it is made into a [`super::Config`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "ukai.toml")]
pub struct File {
    /// Where the log, the overrides and the reports are kept. Default: `$XDG_STATE_HOME/ukai`, else
    /// `~/.local/state/ukai`; `/var/lib/ukai` for root. Relative paths count from this file, here and everywhere.
    pub data_dir: Option<String>,
    /// What the application's network resolves with: `ADDRESS[:PORT]`, `udp://`, `tcp://`,
    /// `tls://ADDRESS[:PORT]#NAME` or `https://ADDRESS[:PORT]/PATH#NAME`. Default: the servers of `/etc/resolv.conf`.
    /// Needed where `[dns]` serves and a peer's level is "approve" or "auto": it is the way past an override, so write the
    /// servers behind the embedded one, never a resolver that is led to it.
    pub resolver: Option<Vec<String>>,
    /// Addresses of root name servers. Default: IANA's.
    pub root_hints: Option<Vec<String>>,
    /// The port of authoritative name servers. Default: 53.
    pub authority_port: Option<u16>,
    /// A PEM bundle that is added to the machine's trust store. Default: none.
    pub ca: Option<String>,
    /// Networks, such as `10.0.0.0/8`, that may be contacted and served although they are not global. Default: none.
    pub allow_addresses: Option<Vec<String>>,
    /// Resolvers that share nothing with `resolver`, asked for evidence. Default: Cloudflare and Quad9 over TLS,
    /// Google over HTTPS.
    pub independent: Option<Vec<String>>,
    /// Networks on whose behalf authoritative servers and independent resolvers are asked too (RFC 7871), so that a name that
    /// is steered by where the client is can be told from a lie. What is written here is sent to them; no network of
    /// yours ever is, unless you write it. At most 4, no longer than /24 and /56. Default: the RIPE NCC's in Amsterdam and
    /// APNIC's in Brisbane, `["193.0.6.0/24", "202.12.29.0/24"]`; `[]` asks for nobody else.
    pub ecs_subnets: Option<Vec<String>>,
    /// A time server that our clock is compared with when evidence is gathered, by SNTP: `ADDRESS[:PORT]`, port 123 if none is
    /// written. Default: none; then only the controls tell the time.
    pub time_server: Option<String>,
    /// How long one gathering of evidence may take. Default: "10s". At most "60s".
    pub evidence_bound: Option<String>,
    /// `"none"` switches the built-in controls off. Not together with `[[control]]`.
    #[schemars(extend("enum" = ["none", "default"]))]
    pub controls: Option<String>,
    /// The embedded DNS server. Absent: it does not run, and overrides have nowhere to take effect unless `[rfc2136]` or
    /// `[unbound]` says where.
    pub dns: Option<Dns>,
    /// A response-policy zone on a server of yours, changed by RFC 2136 updates. Instead of `[dns]`.
    pub rfc2136: Option<Rfc2136>,
    /// An Unbound of yours, changed by its remote control. Instead of `[dns]`.
    pub unbound: Option<Unbound>,
    /// What this ukai is called where it looks from, the dimension `Vantage` of its metrics: ASCII, at most 255 characters.
    /// Default: "local".
    pub vantage: Option<String>,
    /// How alarms name themselves in ARNs and messages.
    pub alarms: Option<Alarms>,
    /// The control socket.
    pub socket: Option<Socket>,
    /// Where the application reports its own calls. Absent: *confirmed* cannot be reached.
    pub application: Option<Application>,
    /// The application's own metrics: where they come from besides the `[application]` listener, which takes them at
    /// `/v1/metrics` (OTLP), `/v1/emf` and `/v1/metric-data` (PutMetricData).
    pub metrics: Option<Metrics>,
    /// Where reports go.
    pub report: Option<Report>,
    /// Unrelated names that tell our own fault from a peer's, probed every minute, when a peer fails, and whenever evidence
    /// is gathered. Default: three built in, run by three organisations.
    pub control: Option<Vec<Control>>,
    /// Other ukais, in other networks, that are asked what they see when a peer fails: what fails for us alone is not the
    /// peer. Default: none.
    pub other_vantage: Option<Vec<OtherVantage>>,
    /// Where `ukai vantage` answers controllers of other networks.
    pub vantage_service: Option<VantageService>,
    /// The services that are watched.
    pub peer: Option<Vec<Peer>>,
    /// Who is told.
    pub notify: Option<Vec<Notify>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alarms {
    /// The Region in ARNs; messages show its display name where AWS has one. Default: "local".
    pub region: Option<String>,
    /// Twelve digits. Default: "000000000000".
    pub account_id: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// IP addresses and ports to serve on, over UDP and TCP. Default: `["127.0.0.1:5300"]`.
    pub listen: Option<Vec<String>>,
    /// Where other names are forwarded. Default: `resolver`.
    pub upstream: Option<Vec<String>>,
    /// Networks that may ask. Default: loopback and private networks.
    pub allow_clients: Option<Vec<String>>,
    /// Resolvers of their own for domains, the name itself and all below it, such as
    /// `{ "corp.example" = ["10.0.0.2"] }`; the longest domain wins. Default: none.
    pub forward: Option<BTreeMap<String, Vec<String>>>,
    /// Threads that answer datagrams, 1 to 8; taken at the start of the DNS process. Default: one for each core, at most 8.
    pub threads: Option<u8>,
    /// What the cache may take, in MiB, 1 to 65536; taken at the start of the DNS process. Default: 64.
    pub cache_mib: Option<u32>,
    /// Answers a second by UDP for one client network (/24, /56); clients with a DNS cookie of this server (RFC 7873) have no
    /// limit. Default: none.
    pub rate_limit: Option<u32>,
    /// What `version.bind` and `version.server` (class CH) answer. Default: they are refused.
    pub version: Option<String>,
    /// What is overridden, as a response-policy zone that other resolvers transfer and follow. Default: none.
    pub policy_zone: Option<ServedZone>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServedZone {
    /// Its name, such as `rpz.ukai.example`. It exists nowhere else.
    pub name: String,
    /// Who signs with this key may transfer it (AXFR, RFC 5936).
    pub tsig: Option<Tsig>,
    /// Networks that may transfer it without a key, for resolvers that cannot sign, such as Unbound, which also goes on with the
    /// zone after this server is gone for good. Default: none.
    pub allow_transfer: Option<Vec<String>>,
    /// Resolvers that are told of each change (NOTIFY, RFC 1996), `ADDRESS[:PORT]`, at most 16. Default: none; then each asks as often as
    /// the zone's SOA (10 s) and its own settings say.
    pub notify: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rfc2136 {
    /// The primary of the zone, `ADDRESS[:PORT]`. Updates, reads and transfers go there over TCP.
    pub server: String,
    /// The response-policy zone, such as `rpz.ukai.example`. Give ukai one of its own.
    pub zone: String,
    /// The key that messages are signed with (RFC 8945).
    pub tsig: Tsig,
    /// Secondaries that the resolvers follow, `ADDRESS[:PORT]`: an override is not applied before each of them has it. Default:
    /// none.
    pub secondaries: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unbound {
    /// Where its remote control listens, `ADDRESS[:PORT]`, port 8953 if none is written. It speaks TLS; the files are those
    /// of `unbound-control-setup`.
    pub control: String,
    /// PEM: the server's own certificate, `unbound_server.pem`. No other is taken.
    pub server_certificate: String,
    /// PEM: what we show, `unbound_control.pem`.
    pub certificate: String,
    /// PEM: the key to it, `unbound_control.key`.
    pub key: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tsig {
    /// The key's name, the same as on the server.
    pub name: String,
    /// "hmac-sha256", "hmac-sha384" or "hmac-sha512". Default: "hmac-sha256".
    #[schemars(extend("enum" = ["hmac-sha256", "hmac-sha384", "hmac-sha512"]))]
    pub algorithm: Option<String>,
    /// The key in Base64, as `tsig-keygen` prints it: `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub secret: SecretPlace,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Socket {
    /// The Unix socket that the command line talks to, mode 0660. Default: `ukai.sock` in `data_dir`.
    pub path: Option<String>,
    /// The group that may use it, by name or number. Default: the daemon's own.
    pub group: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    /// IP address and port. Default: "127.0.0.1:7070".
    pub listen: Option<String>,
    /// The bearer token that the application shows: `{ env = "NAME" }` or `{ file = "PATH" }`. This or `token_file`.
    pub token: Option<SecretPlace>,
    /// The same as `token = { file = "PATH" }`.
    pub token_file: Option<String>,
    /// The resolver that the application itself asks, written as in `resolver`, where it is not the embedded server but one
    /// that is led to it for the peers' names: an override counts as served when it is seen there. Default: the embedded
    /// server.
    pub resolver: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtherVantage {
    /// What evidence and verdicts call it.
    pub name: String,
    /// Where its `ukai vantage` listens: https, or http to loopback. The path is ours.
    pub url: String,
    /// The bearer token that it wants: `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub token: SecretPlace,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VantageService {
    /// IP address and port. Default: "127.0.0.1:9155". It speaks plain HTTP: put a proxy with TLS before it where it is to be
    /// reached from another machine.
    pub listen: Option<String>,
    /// The bearer token that controllers show: `{ env = "NAME" }` or `{ file = "PATH" }`. This or `token_file`.
    pub token: Option<SecretPlace>,
    /// The same as `token = { file = "PATH" }`.
    pub token_file: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Files of CloudWatch's embedded metric format. Default: none.
    pub emf: Option<Vec<EmfFile>>,
    /// Prometheus targets. Default: none.
    pub scrape: Option<Vec<Scrape>>,
    /// How OTLP metrics are named.
    pub otlp: Option<Otlp>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmfFile {
    /// A log file that is followed: lines with `_aws` are metrics, others are passed over. It may be rotated, and need not
    /// be there yet.
    pub file: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scrape {
    /// `http://` or `https://`, such as `http://127.0.0.1:9100/metrics`.
    pub url: String,
    /// How often. Default: "10s". From "1s" to "1h". From "60s" on, the data are kept by the minute.
    pub interval: Option<String>,
    /// The namespace of its metrics. Default: "Prometheus".
    pub namespace: Option<String>,
    /// Names of metrics or families, exact or with `*` at the end. Default: all, up to 5000 series.
    pub keep: Option<Vec<String>>,
    /// A bearer token for the target: `{ env = "NAME" }` or `{ file = "PATH" }`. Default: none.
    pub token: Option<SecretPlace>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// The namespace of metrics that come by OTLP. Default: "OTel".
    pub namespace: Option<String>,
    /// Attributes of the data point or the resource that become dimensions, at most 30. Default: `service.name` of the
    /// resource and all attributes of the data point.
    pub dimensions: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// Where reports are written. Default: `reports` in `data_dir`.
    pub dir: Option<String>,
    /// Who answers for us, on the page of `ukai evidence`: one line of at most 200 characters. Default: to be filled in.
    pub contact: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// An `https://` URL of somebody unrelated to every peer.
    pub url: String,
    /// A known address of it, so that the control works without any name. Default: none, so only the name is tried.
    pub address: Option<String>,
    /// A known IPv6 address of it: tells our own IPv6 from a peer's. Default: what its name gives.
    pub address_v6: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    /// Letters, digits, `.`, `-` and `_`. Default: the host.
    pub name: Option<String>,
    /// What to check, all of one host: `https://`, `http://`, `tls://HOST:PORT` or `tcp://HOST:PORT`.
    pub urls: Vec<String>,
    /// How often. Default: "10s". From "1s" to "1h".
    pub interval: Option<String>,
    /// How far ukai may go: "observe", "propose", "approve" or "auto". Default: "observe".
    #[schemars(extend("enum" = ["observe", "propose", "approve", "auto"]))]
    pub level: Option<String>,
    /// How many different persons must approve: 1 or 2. Default: 1.
    #[schemars(range(min = 1, max = 2))]
    pub approvals: Option<u8>,
    /// How long an override may stand. Default: "4h". At most "24h".
    pub lease: Option<String>,
    /// How an override finds its addresses: "follow" or "pin". Default: "follow".
    #[schemars(extend("enum" = ["follow", "pin"]))]
    pub mode: Option<String>,
    /// The addresses of a pin. Only with `mode = "pin"`.
    pub addresses: Option<Vec<String>>,
    /// Networks of the peer's own, such as `192.0.2.0/24`: an address inside counts as proven before. Default: none.
    pub networks: Option<Vec<String>>,
    /// Authoritative name servers, `ADDRESS[:PORT]`, asked instead of those that the delegation names. Default: none.
    pub authority: Option<Vec<String>>,
    /// What a good answer looks like.
    pub expect: Option<Expect>,
    /// What a good answer to a request without secrets looks like. A candidate address gets no secrets, so an
    /// endpoint that needs them is proved by this.
    pub unauthenticated: Option<Expect>,
    /// Request headers. A value is text, `{ env = "NAME" }` or `{ file = "PATH" }`; the latter two are secret.
    pub headers: Option<BTreeMap<String, SecretSource>>,
    /// What we show where the peer asks for a certificate; no candidate is shown it. Default: none.
    pub client_certificate: Option<ClientCertificate>,
    /// How long each stage may take.
    pub timeouts: Option<Timeouts>,
    /// A PEM bundle that is trusted for this peer as well. Default: none.
    pub ca: Option<String>,
    /// Whether it gets the metric alarms that nobody has to write: errors, latency, certificate, addresses, resolver.
    /// Reachability and outage are always watched. Default: true.
    pub default_alarms: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Codes (200), classes ("2xx") and ranges ("200-299"). Default: `["200-399"]`.
    pub status: Option<Vec<Status>>,
    /// Response headers: exact text, or `{ regex = "…" }`.
    pub headers: Option<BTreeMap<String, HeaderMatch>>,
    /// Text that the body must contain.
    pub body_contains: Option<String>,
    /// A regular expression that must match somewhere in the body.
    pub body_regex: Option<String>,
    /// A value that the JSON body must hold.
    pub body_json: Option<BodyJson>,
    /// The most that all stages may take together. Default: none but the timeouts.
    pub max_time: Option<String>,
    /// Days that the certificate must still be valid. Default: no check.
    pub certificate_days: Option<u32>,
    /// Networks that every address of the answer must be in. Default: any.
    pub address_ranges: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a status is a code such as 200, a class such as \"2xx\", or a range such as \"200-299\""
)]
pub enum Status {
    Code(u16),
    Range(String),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "an expected header is text, or { regex = \"…\" }")]
pub enum HeaderMatch {
    Exact(String),
    Regex(HeaderRegex),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderRegex {
    /// A regular expression that must match somewhere in the header's value.
    pub regex: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyJson {
    /// A JSON path (RFC 9535), such as `$.status`.
    pub path: String,
    /// The value that must stand there.
    pub equals: serde_json::Value,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// A PEM file: the certificate, then its chain.
    pub certificate: String,
    /// A PEM file: the private key.
    pub key: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Default: "3s". Each of these: from "10ms" to "60s".
    pub resolve: Option<String>,
    /// Default: "3s".
    pub connect: Option<String>,
    /// Default: "3s".
    pub tls: Option<String>,
    /// From the request's last byte to the answer's first. Default: "5s".
    pub processing: Option<String>,
    /// From the answer's first byte to its last. Default: "5s".
    pub transfer: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Its name in events and reports; each has its own.
    pub name: String,
    /// "webhook" or "slack".
    #[schemars(extend("enum" = ["webhook", "slack"]))]
    pub kind: String,
    /// Where to post: text, `{ env = "NAME" }` or `{ file = "PATH" }`. A Slack webhook's URL is itself a secret.
    pub url: SecretSource,
    /// Webhooks only: the key that bodies are signed with. Default: not signed.
    pub secret: Option<SecretPlace>,
    /// Names of peers. Default: all.
    #[serde(default)]
    pub peers: Vec<String>,
    /// ARNs that alarms name as actions, such as `arn:aws:sns:eu-west-1:111122223333:ops`: it hears of those alarms too.
    /// Default: none.
    #[serde(default)]
    pub topics: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a value here is text, { env = \"NAME\" } or { file = \"PATH\" }")]
pub enum SecretSource {
    Literal(String),
    Place(SecretPlace),
}

/// One of the two.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "{ env = \"NAME\" } or { file = \"PATH\" }")]
pub struct SecretPlace {
    /// The name of an environment variable of the daemon.
    pub env: Option<String>,
    /// A file; one line end at its end is left out.
    pub file: Option<String>,
}
