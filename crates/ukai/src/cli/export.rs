//! `ukai overrides export`: what stands, for servers that ukai does not write to.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;
use ukai_core::overrides::Override;
use ukai_dns::Name;

use crate::provider::claim::Claim;
use crate::socket::Op;

use super::DONE;
use super::daemon::Daemon;

/// Who follows an exported zone asks for a new one this often, s.
const REFRESH_S: i64 = 30;
/// How long an absence is remembered, s: the end of an override takes effect as soon.
const MINIMUM_S: u32 = 5;

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false, args = ["rpz", "coredns"])]
pub struct Args {
    /// As a response-policy zone of this name: a zone file for BIND, Unbound, Knot Resolver and PowerDNS.
    #[arg(long, value_name = "ZONE")]
    rpz: Option<Name>,
    /// As snippets for a Corefile, with what to do with them.
    #[arg(long)]
    coredns: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Deserialize)]
struct Listed {
    overrides: Vec<Override>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let value = args.daemon.call(Op::Overrides).await?;
    let listed: Listed = serde_json::from_value(value).context("the daemon's answer is not understood")?;
    let standing: Vec<Claim> = listed.overrides.iter().filter_map(standing).collect();
    let now = Timestamp::now();
    let text = match &args.rpz {
        Some(zone) => rpz(zone, &standing, now),
        None => coredns(&standing),
    };
    anstream::print!("{text}");
    Ok(ExitCode::from(DONE))
}

fn standing(over: &Override) -> Option<Claim> {
    let expires_at = over.expires_at.filter(|_| over.phase.stands())?;
    Some(Claim {
        owner: String::new(),
        id: over.id.clone(),
        incident: over.incident.clone(),
        host: over.plan.host.clone(),
        generation: over.generation,
        addresses: over.addresses.clone(),
        ttl_s: over.plan.ttl_s,
        expires_at,
    })
}

/// The SOA's EXPIRE is what is left of the shortest lease: a secondary that cannot reach its primary any more drops the zone then.
fn rpz(zone: &Name, standing: &[Claim], now: Timestamp) -> String {
    let left = standing.iter().map(|claim| claim.expires_at.duration_since(now).as_secs()).min();
    let expire = left.unwrap_or(REFRESH_S * 10).max(1);
    let (refresh, retry) = (REFRESH_S.min(expire), (REFRESH_S / 3).min(expire));
    // Seconds since 1970 grow with every export, and 32 bits of them wrap as serials may (RFC 1982).
    let serial = now.as_second() & 0xffff_ffff;
    let mut text = format!(
        "; Standing overrides at {now:.0}. A copy: nobody takes it back when a lease ends. Export it again at each change, and\n\
         ; remove a name when its time is over.\n\
         $ORIGIN {zone}.\n\
         @ {MINIMUM_S} IN SOA localhost. hostmaster.localhost. {serial} {refresh} {retry} {expire} {MINIMUM_S}\n\
         @ {MINIMUM_S} IN NS localhost.\n"
    );
    for claim in standing {
        let _ = writeln!(text, "; {} (incident {}), until {:.0}", claim.id, claim.incident, claim.expires_at);
        for address in &claim.addresses {
            let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
            let _ = writeln!(text, "{} {} IN {rtype} {address}", claim.host, claim.ttl_s);
        }
    }
    text
}

/// The better way first: a server block that sends the one name to ukai, which ends leases by itself.
fn coredns(standing: &[Claim]) -> String {
    let mut text = String::from(
        "# CoreDNS. Two ways; take one. In Kubernetes edit the Corefile with\n\
         #   kubectl -n kube-system edit configmap coredns\n\
         # and the `reload` plugin takes it over within a minute.\n#\n\
         # 1. Before any incident, where ukai serves DNS itself ([dns]): send the watched name to it. It answers with the world\n\
         #    until an override stands, and ends leases by itself. One server block for each name, with ukai's address:\n",
    );
    let mut hosts: Vec<&str> = standing.iter().map(|claim| claim.host.as_str()).collect();
    if hosts.is_empty() {
        hosts.push("api.peer.example");
    }
    for host in hosts {
        let _ = write!(
            text,
            "{host}:53 {{\n    forward . UKAI_ADDRESS:5300 /etc/resolv.conf {{\n        policy sequential\n    }}\n}}\n"
        );
    }
    text.push_str(
        "#\n# 2. In an incident, without ukai in the path: the `hosts` plugin in the server block that resolves the name. Nobody ends\n\
         #    it: take it out again by the time that is written beside each line.\n",
    );
    if standing.is_empty() {
        text.push_str("#    No override stands now.\n");
        return text;
    }
    let ttl = standing.iter().map(|claim| claim.ttl_s).min().unwrap_or(10);
    text.push_str("hosts {\n");
    for claim in standing {
        let _ = writeln!(text, "    # {} (incident {}), until {:.0}", claim.id, claim.incident, claim.expires_at);
        for address in &claim.addresses {
            let _ = writeln!(text, "    {address} {}", claim.host);
        }
    }
    let _ = write!(text, "    ttl {ttl}\n    fallthrough\n}}\n");
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::provider::claim::tests::claim;

    fn now() -> Timestamp {
        claim().expires_at - jiff::SignedDuration::from_mins(30)
    }

    #[test]
    fn an_exported_zone_is_a_zone() {
        let text = rpz(&"rpz.ukai.test".parse().unwrap(), &[claim()], now());
        assert!(text.contains("api.peer.test 10 IN A 192.0.2.7\napi.peer.test 10 IN AAAA 2001:db8::7\n"), "{text}");
        assert!(text.contains(" 30 10 1800 5\n"), "EXPIRE is what is left of the lease: {text}");
        let mut check = Command::new("named-checkzone")
            .args(["rpz.ukai.test", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let checked = check.wait_with_output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }

    #[test]
    fn nothing_stands_and_it_is_a_zone_still() {
        let text = rpz(&"rpz.ukai.test".parse().unwrap(), &[], now());
        assert!(text.contains("SOA") && !text.contains(" IN A "), "{text}");
    }

    #[test]
    fn a_corefile_says_when_it_ends() {
        let text = coredns(&[claim()]);
        for line in
            ["api.peer.test:53 {", "    192.0.2.7 api.peer.test", "    2001:db8::7 api.peer.test", "until 2096-"]
        {
            assert!(text.contains(line), "{text}");
        }
        assert!(coredns(&[]).contains("No override stands now"));
    }
}
