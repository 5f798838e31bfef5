//! Connections of this machine to the peer, as the kernel lists them: which address the application holds on to shows there,
//! whoever made the connection. Our own are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ukai_core::diagnose::evidence::{Asked, Candidate, LiveConnection};

use super::Order;
use super::own::{SystemFiles, bounded};

/// About a hundred thousand connections, 150 bytes each.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;
/// States as the kernel numbers them (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";
const SYN_SENT: &str = "02";

/// By remote address: established, and waiting for an answer to their SYN.
pub type Counts = BTreeMap<IpAddr, (usize, usize)>;

/// Empty where the system has no such tables.
pub async fn read(files: &SystemFiles) -> Counts {
    let files = files.clone();
    tokio::task::spawn_blocking(move || read_tables(&files)).await.unwrap_or_default()
}

/// Those to an address that anybody named now, or where the peer was before.
pub fn of_interest(counts: Counts, candidates: &[Candidate], order: &Order, asked: &[Asked]) -> Vec<LiveConnection> {
    let answered = asked.iter().filter_map(Asked::answer).flat_map(|answer| answer.addresses.iter().copied());
    let named: BTreeSet<IpAddr> = candidates
        .iter()
        .map(|candidate| candidate.address)
        .chain(order.also.iter().chain(&order.known).copied())
        .chain(answered)
        .collect();
    counts
        .into_iter()
        .filter(|(address, _)| named.contains(address))
        .map(|(address, (established, waiting))| LiveConnection { address, established, waiting })
        .collect()
}

fn read_tables(files: &SystemFiles) -> Counts {
    // Before and after: a probe of ours may begin or end meanwhile.
    let mut own = own_sockets(files);
    let tables: Vec<String> = files.tcp.iter().filter_map(|path| bounded(path, TABLE_BYTES).ok()).collect();
    own.extend(own_sockets(files));
    let mut counts = Counts::new();
    for connection in tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(parse) {
        if own.contains(connection.inode) {
            continue;
        }
        let (established, waiting) = counts.entry(connection.remote).or_default();
        match connection.state {
            ESTABLISHED => *established += 1,
            SYN_SENT => *waiting += 1,
            _ => {}
        }
    }
    counts.retain(|_, (established, waiting)| *established + *waiting > 0);
    counts
}

/// Inodes of this process's sockets, which are links to `socket:[INODE]`.
fn own_sockets(files: &SystemFiles) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(&files.descriptors) else { return BTreeSet::new() };
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

struct Connection<'a> {
    remote: IpAddr,
    state: &'a str,
    inode: &'a str,
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn parse(line: &str) -> Option<Connection<'_>> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let (address, _port) = words.next()?.split_once(':')?;
    let state = words.next()?;
    let inode = words.nth(5)?;
    Some(Connection { remote: parse_address(address)?, state, inode })
}

/// Words of 32 bits in the byte order of the machine, in hexadecimal.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(IpAddr::from(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (index, chunk) in octets.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?);
            }
            // What speaks IPv4 on a socket of IPv6 is a connection of IPv4 (RFC 4291, 2.5.5.2).
            Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// As a little-endian machine writes it.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_table_of_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let header =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |remote: &str, state: &str, inode: u32| {
            format!(
                "   0: 0100007F:9C40 {remote} {state} 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
            )
        };
        let four = [
            line("050200C0:01BB", "01", 11),
            line("050200C0:01BB", "01", 12),
            line("050200C0:01BB", "06", 13),
            line("060200C0:01BB", "02", 14),
            line("00000000:0000", "0A", 15),
            line("070200C0:01BB", "01", 16),
            "nonsense\n".to_owned(),
            line("7:01BB", "01", 17),
            line("zzzzzzzz:01BB", "01", 18),
        ];
        let six = [
            line("0000000000000000FFFF0000050200C0:01BB", "01", 21),
            line("B80D0120000000000000000001000000:01BB", "02", 22),
        ];
        let write = |name: &str, lines: &[String]| {
            std::fs::write(directory.path().join(name), format!("{header}{}", lines.concat())).unwrap();
            directory.path().join(name)
        };
        let descriptors = directory.path().join("fd");
        std::fs::create_dir(&descriptors).unwrap();
        std::os::unix::fs::symlink("socket:[16]", descriptors.join("3")).unwrap();
        let tcp = vec![write("tcp", &four), write("tcp6", &six), directory.path().join("missing")];
        let counts = read_tables(&SystemFiles { tcp, descriptors, ..SystemFiles::default() });
        let expected = [("192.0.2.5", (3, 0)), ("192.0.2.6", (0, 1)), ("2001:db8::1", (0, 1))];
        assert_eq!(counts, expected.map(|(address, counts)| (address.parse().unwrap(), counts)).into());
    }

    #[test]
    fn the_table_of_this_machine() {
        let listener = TcpListener::bind("127.77.0.1:0").unwrap();
        let _connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address: IpAddr = "127.77.0.1".parse().unwrap();
        let files = SystemFiles::default();
        assert!(!read_tables(&files).contains_key(&address), "it is our own");
        let strangers = SystemFiles { descriptors: "/nonexistent".into(), ..files };
        assert_eq!(read_tables(&strangers).get(&address), Some(&(1, 0)));
    }
}
