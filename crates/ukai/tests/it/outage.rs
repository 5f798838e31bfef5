//! The outage of S01 as it can be taken apart: the world, the daemon and its DNS process each by itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use ukai_dns::server::ControlClient;
use ukai_dns::{AskOptions, Client, ClientOptions, Question, RecordType, Upstream};
use ukai_lab::runner::catalogue;
use ukai_lab::runner::vigil::Vigil;
use ukai_lab::scenario::Scenario;
use ukai_lab::world::{SECRET_VARIABLE, Slot, World};

use crate::place::{PAUSE, Place, TRIES, ukai};

pub struct Outage {
    pub world: World,
    pub place: Place,
    scenario: Scenario,
    /// The address that the peer moved to, and that an override serves.
    pub new: IpAddr,
}

impl Outage {
    /// All is well, and the daemon knows it.
    pub async fn stage() -> Outage {
        Outage::stage_with("").await
    }

    /// With more at the end of the configuration.
    pub async fn stage_with(more: &str) -> Outage {
        Outage::stage_as(|_, config| format!("{config}\n{more}")).await
    }

    /// With a configuration made of the ordinary one.
    pub async fn stage_as(configure: impl FnOnce(&World, &str) -> String) -> Outage {
        let scenario = catalogue::find("S01").first().unwrap().parse().unwrap();
        let world = World::start(&scenario, Slot::claim().unwrap()).await.unwrap();
        let mut place = Place::new();
        place.environment.push((SECRET_VARIABLE.to_owned(), world.secret().to_owned()));
        let config = world.daemon_config(&place.data());
        fs::write(place.config(), configure(&world, &config)).unwrap();
        let history = place.dir.path().join("history.json");
        fs::write(&history, world.history().to_string()).unwrap();
        let imported = place.ask(&["history", "import", &history.display().to_string()]);
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        place.start();
        place.wait_for("address_set_changed");
        let new = world.address_of("new-1").unwrap();
        Outage { world, place, scenario, new }
    }

    /// Broken, and an override proposed.
    pub async fn proposed() -> (Outage, String) {
        let mut outage = Outage::stage().await;
        outage.break_it().await;
        let id = outage.place.wait_for("override_proposed")["id"].as_str().unwrap().to_owned();
        (outage, id)
    }

    /// Broken, and gone around.
    pub async fn standing() -> Outage {
        let (outage, id) = Outage::proposed().await;
        outage.approve(&id);
        outage.place.wait_for("override_served");
        assert_eq!(outage.answer().await, Some(outage.detour()));
        outage
    }

    pub async fn break_it(&mut self) {
        let fault = self.scenario.faults[0].change.clone();
        self.world.apply(&fault).await.unwrap();
    }

    pub async fn heal(&mut self) {
        let heal = self.scenario.heals[0].change.clone();
        self.world.apply(&heal).await.unwrap();
    }

    pub fn approve(&self, id: &str) {
        let approved = self.place.ask(&["approve", id, "--yes", "--why", "test"]);
        assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    }

    pub fn detour(&self) -> BTreeSet<IpAddr> {
        BTreeSet::from([self.new])
    }

    /// What an application would get now.
    pub async fn answer(&self) -> Option<BTreeSet<IpAddr>> {
        let question = Question::new(self.scenario.host(), RecordType::A).unwrap();
        let server = Upstream::Udp(self.world.embedded_dns());
        let reply = Client::new(ClientOptions::default()).ask(&server, &question, &AskOptions::default()).await;
        Some(reply.ok()?.addresses().iter().copied().collect())
    }

    /// Waits until the override is answered again.
    pub async fn until_served(&self) {
        for _ in 0..TRIES {
            if self.answer().await == Some(self.detour()) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the override is not served: {:?}", self.place.said());
    }

    /// Asks as an application does, until it is dropped.
    pub fn watch(&self) -> Vigil {
        Vigil::start(self.world.embedded_dns(), self.scenario.host().to_owned())
    }

    /// The process that answers at the DNS server's control socket.
    pub async fn dns_process(&self) -> Option<u32> {
        Some(ControlClient::new(self.dns_dir().join("control.sock")).list().await.ok()?.process)
    }

    pub fn dns_dir(&self) -> PathBuf {
        self.place.data().join("dns")
    }

    /// SIGKILL. Returns the process that is no more.
    pub async fn kill_dns(&self) -> u32 {
        let process = self.dns_process().await.unwrap();
        let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        for _ in 0..TRIES {
            if self.dns_process().await != Some(process) {
                return process;
            }
            thread::sleep(PAUSE);
        }
        panic!("the DNS process outlives SIGKILL");
    }

    pub async fn kill_both(&mut self) {
        self.place.kill();
        self.kill_dns().await;
    }

    /// `ukai dns` by hand, on the same overrides.
    pub fn start_dns(&self, listen: SocketAddr) -> Child {
        ukai()
            .args(["dns", "--listen", &listen.to_string()])
            .args(["--upstream", &format!("udp://{}", self.world.resolver())])
            .args(["--overrides-dir", &self.dns_dir().display().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Messages of this kind that reached somebody.
    pub fn told(&self, kind: &str) -> Vec<Value> {
        let bodies =
            self.world.notifications().into_iter().map(|told| serde_json::from_str::<Value>(&told.body).unwrap());
        bodies.filter(|body| body["kind"] == kind).collect()
    }
}
