//! What the upstream knows: the root, with everything that is asked about below one name.

use std::fmt::Write;

pub const HOSTS: usize = 200;

/// A zone file.
pub fn text() -> String {
    let mut text = String::from(
        "$ORIGIN .\n$TTL 3600\n@ SOA ns. hostmaster. 1 3600 600 86400 300\n@ NS ns.\nns. A 127.0.0.1\n$ORIGIN zone.example.\nready A 192.0.2.1\n",
    );
    for n in 0..HOSTS {
        host(&mut text, n).unwrap();
    }
    text.push_str("*.wild A 192.0.2.7\n*.wild TXT \"any\"\n*.walias CNAME h1\nloop1 CNAME loop2\nloop2 CNAME loop1\nself CNAME self\n");
    // Longer than the upstream follows.
    for n in 1..12 {
        writeln!(text, "deep{n} CNAME deep{}", n - 1).unwrap();
    }
    text.push_str("deep0 CNAME h1\nbelow DNAME zone.example.\nonly.below2 A 192.0.2.8\n");
    text
}

fn host(text: &mut String, n: usize) -> std::fmt::Result {
    for address in 0..1 + n % 5 {
        writeln!(text, "h{n} A 192.0.2.{}", n % 50 * 5 + address)?;
    }
    for address in 0..n % 4 {
        writeln!(text, "h{n} AAAA 2001:db8::{n:x}:{address:x}")?;
    }
    writeln!(text, "h{n} MX {n} MaIl{n}.zone.example.")?;
    writeln!(text, "h{n} SRV 0 5 443 h{}", (n + 1) % HOSTS)?;
    writeln!(text, "h{n} CAA 0 issue \"ca.example\"")?;
    writeln!(text, "h{n} HTTPS 1 . alpn=h2 ipv4hint=192.0.2.{}", n % 256)?;
    writeln!(text, "h{n} TYPE65280 \\# 4 0a0b0c{:02x}", n % 256)?;
    writeln!(text, "h{n} NAPTR 100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:a@b!\" .")?;
    writeln!(text, "h{n} SSHFP 1 1 dd465c09cfa51fb45020cc83316fff21b9ec74ac")?;
    writeln!(text, "h{n} TXT \"text of {n}\" \"MiXeD CaSe\"")?;
    // From one datagram to several, and everything near the border.
    for part in 0..1 + n % 30 {
        writeln!(text, "big{n} TXT \"{}\"", format!("{part:03}").repeat(15 + n % 3))?;
    }
    writeln!(text, "MixedCase{n} A 192.0.2.{}", n % 256)?;
    writeln!(text, "alias{n} CNAME H{n}")?;
    let target = if n.is_multiple_of(4) { format!("h{n}") } else { format!("chain{}", n - 1) };
    writeln!(text, "chain{n} CNAME {target}")?;
    writeln!(text, "dangling{n} CNAME nowhere{n}")?;
    writeln!(text, "a.b.empty{n} A 192.0.2.9")
}
