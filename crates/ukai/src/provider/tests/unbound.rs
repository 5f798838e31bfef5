//! Unbound alone: what its clients see while local data change, and who may change them.

mod between;
mod gone;
mod whole;
mod written;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ukai_core::effect::ServedOverride;
use ukai_dns::{AskOptions, Client, ClientOptions, Question, Rcode, RecordType, Upstream};
use ukai_lab::servers::{Controlled, free_address};

use super::bench::{HOST, OWNER, mine, next, served, unbound_at};
use crate::gather::name_server::{Mind, Servers, address, zone};
use crate::provider::claim::Claim;
use crate::provider::unbound::{Control, Unbound};

/// Changes of the set, each a moment in which something could be seen that is neither old nor new.
const CHANGES: u64 = 20;
const WORLD: &str = "198.51.100.1";

async fn world() -> Servers {
    let mind: Mind = Arc::new(|name, qtype, _| zone("test", &[address(name, WORLD)], name, qtype));
    Servers::start(|_| vec![(1, mind.clone())]).await
}

/// Its control as it is reached at `control`.
fn through(server: &Controlled, control: SocketAddr) -> Control {
    let read = |name: &str| std::fs::read(server.file(name)).unwrap();
    let certificate = |name: &str| CertificateDer::from_pem_slice(&read(name)).unwrap();
    Control::new(
        control,
        certificate("unbound_server.pem"),
        vec![certificate("unbound_control.pem")],
        PrivateKeyDer::from_pem_slice(&read("unbound_control.key")).unwrap(),
    )
    .unwrap()
}

fn direct(server: &Controlled) -> Unbound {
    Unbound::new(through(server, server.control()))
}

fn claim(served: &ServedOverride) -> Claim {
    Claim::of(served, OWNER, served.expires_at)
}

/// The addresses, the code, or what went wrong.
async fn asked(at: SocketAddr, name: &str, qtype: RecordType) -> String {
    let question = Question::new(name, qtype).unwrap();
    match Client::new(ClientOptions::default()).ask(&Upstream::Udp(at), &question, &AskOptions::default()).await {
        Ok(reply) if reply.rcode == Rcode::NOERROR => {
            reply.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        Ok(reply) => reply.rcode.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Asks all the time, and notes every different answer.
struct Watching {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<BTreeSet<String>>,
}

impl Watching {
    fn start(at: SocketAddr) -> Watching {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                seen.insert(asked(at, HOST, RecordType::A).await);
            }
            seen
        });
        Watching { stop, task }
    }

    async fn seen(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_anything_but_the_old_answer_or_the_new_one() {
    let world = world().await;
    let server = Controlled::start(free_address().unwrap(), world.address(1)).unwrap();
    let place = unbound_at(&server);

    let watching = Watching::start(server.address());
    let mut standing = served("ovr-1", &["192.0.2.1"]);
    place.put(&claim(&standing), None).await.unwrap();
    let seen = watching.seen().await;
    assert!(seen.iter().all(|said| said == WORLD || said == "192.0.2.1"), "{seen:?}");

    let watching = Watching::start(server.address());
    for change in 0..CHANGES {
        let to = if change % 2 == 0 { "192.0.2.2" } else { "192.0.2.1" };
        let before = standing.generation;
        standing = next(&standing, &[to]);
        place.put(&claim(&standing), Some(before)).await.unwrap();
        assert_eq!(asked(server.address(), HOST, RecordType::A).await, to);
    }
    let seen = watching.seen().await;
    // Between two commands it is the world's. On a busy machine a query may be lost.
    let is_right =
        |said: &String| said == WORLD || said == "192.0.2.1" || said == "192.0.2.2" || said.starts_with("no reply");
    assert!(seen.iter().all(is_right), "{seen:?}");

    for qtype in [RecordType::AAAA, RecordType::HTTPS] {
        assert_eq!(asked(server.address(), HOST, qtype).await, "", "{qtype}");
    }
    let watching = Watching::start(server.address());
    place.take(&mine("ovr-1", standing.generation)).await.unwrap();
    let seen = watching.seen().await;
    assert!(seen.iter().all(|said| said == WORLD || said.starts_with("192.0.2.")), "{seen:?}");
}

#[tokio::test]
async fn only_the_server_that_we_know_and_only_whom_it_knows() {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let server = Controlled::start(free_address().unwrap(), nobody).unwrap();
    let other = Controlled::start(free_address().unwrap(), nobody).unwrap();
    let before = server.local().unwrap();
    let claim = claim(&served("ovr-1", &["192.0.2.1"]));
    let read = |of: &Controlled, name: &str| std::fs::read(of.file(name)).unwrap();
    let certificate = |of: &Controlled, name: &str| CertificateDer::from_pem_slice(&read(of, name)).unwrap();
    for (known, ours) in [(&other, &server), (&server, &other)] {
        let control = Control::new(
            server.control(),
            certificate(known, "unbound_server.pem"),
            vec![certificate(ours, "unbound_control.pem")],
            PrivateKeyDer::from_pem_slice(&read(ours, "unbound_control.key")).unwrap(),
        );
        let told = Unbound::new(control.unwrap()).put(&claim, None).await.unwrap_err();
        assert!(told.text.contains(&server.control().to_string()), "{told}");
        println!("{told}");
    }
    assert_eq!(server.local().unwrap(), before);
}
