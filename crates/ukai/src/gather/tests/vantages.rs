//! What other vantages are asked about, and when.

use std::sync::Mutex;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::vantage::ADDRESSES_MAX;

const HOST: &str = "api.peer.test";

/// A vantage that keeps what it is asked, and sees nothing.
struct Listening {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Listening {
    async fn start() -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (keep, mut tasks) = (Arc::clone(&asked), JoinSet::new());
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = Vec::new();
                while !question.ends_with(b"}") && stream.read_buf(&mut question).await.is_ok_and(|read| read > 0) {}
                keep.lock().unwrap().push(String::from_utf8(question).unwrap());
                let answer = "{\"resolved\":[],\"results\":[]}";
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
                let _ = stream.write_all(head.as_bytes()).await;
            }
        });
        Listening { at, asked, _tasks: tasks }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn zone_at(hosts: &[String]) -> Mind {
    let hosts = hosts.to_vec();
    Arc::new(move |name, qtype, _| {
        let servers = ["ns-1.peer.test", "ns-2.peer.test"].map(|server| ns("peer.test", server));
        let hosts: Vec<_> = hosts.iter().map(|host| address(HOST, host)).collect();
        zone("peer.test", &[&servers[..], &hosts].concat(), name, qtype)
    })
}

/// A gathering with this purpose: our resolver leads to the first addresses, the authorities to the second.
async fn gathered(others: &[SocketAddr], ours: &[String], right: &[String], purpose: Purpose) -> Evidence {
    let servers =
        Servers::start(|ip| vec![(1, root(ip)), (2, zone_at(ours)), (3, zone_at(right)), (4, zone_at(right))]).await;
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "a-token-of-the-vantage").unwrap();
    let more: String = others
        .iter()
        .enumerate()
        .map(|(number, at)| {
            let token = token.display();
            format!(
                "[[other_vantage]]\nname = \"v-{number}\"\nurl = \"http://{at}\"\ntoken = {{ file = \"{token}\" }}\n"
            )
        })
        .collect();
    let more = format!("controls = \"none\"\n{more}");
    let (vantage, subject) = configured(servers.address(2), servers.address(1), &more);
    let asked =
        Order { purpose, also: ips(&["127.0.0.8"]), known: ips(&["127.0.0.9"]), ..order(Timestamp::UNIX_EPOCH) };
    gather(&vantage, &subject, &asked).await
}

fn texts(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

fn addresses_in(question: &str) -> BTreeSet<IpAddr> {
    let (_, body) = question.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["peer"], "api");
    serde_json::from_value(body["addresses"].clone()).unwrap()
}

#[tokio::test]
async fn a_vantage_is_asked_about_all_that_was_named() {
    let other = Listening::start().await;
    let (ours, right) = (texts(&["127.0.0.5"]), texts(&["127.0.0.6"]));
    for purpose in [Purpose::Diagnose, Purpose::Apply] {
        let evidence = gathered(&[other.at], &ours, &right, purpose).await;
        assert_eq!((evidence.vantages.len(), &evidence.vantages[0].silence), (1, &None));
    }
    let asked = other.asked();
    assert_eq!(asked.len(), 2, "once in each gathering");
    for question in &asked {
        assert_eq!(addresses_in(question), ips(&["127.0.0.5", "127.0.0.6", "127.0.0.8", "127.0.0.9"]));
        assert!(question.to_ascii_lowercase().contains("authorization: bearer a-token-of-the-vantage"));
    }
    for purpose in [Purpose::Baseline, Purpose::Standing] {
        assert_eq!(gathered(&[other.at], &ours, &right, purpose).await.vantages, []);
    }
    assert_eq!(other.asked().len(), 2, "in peace nobody is asked");
}

#[tokio::test]
async fn a_flood_of_addresses_leaves_room_for_the_others() {
    let other = Listening::start().await;
    let flood: Vec<String> = (1..=60).map(|last| format!("127.0.1.{last}")).collect();
    let right = texts(&["127.9.0.6"]);
    gathered(&[other.at], &flood, &right, Purpose::Diagnose).await;
    let asked = addresses_in(&other.asked()[0]);
    assert_eq!(asked.len(), ADDRESSES_MAX);
    assert!(asked.is_superset(&ips(&["127.9.0.6", "127.0.0.8", "127.0.0.9"])), "{asked:?}");
}

#[tokio::test]
async fn a_vantage_that_hangs_is_silent_within_the_bound() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = Listening::start().await;
    let others = [hanging.local_addr().unwrap(), other.at];
    let (ours, right) = (texts(&["127.0.0.5"]), texts(&["127.0.0.5"]));
    let gathering = gathered(&others, &ours, &right, Purpose::Diagnose);
    let evidence = tokio::time::timeout(Duration::from_secs(20), gathering).await.unwrap();
    let silence = evidence.vantages[0].silence.as_ref().unwrap();
    assert!(silence.contains("no answer within") && !silence.contains("a-token"), "{silence}");
    assert_eq!((evidence.vantages[1].vantage.as_str(), &evidence.vantages[1].silence), ("v-1", &None));
}
