//! What stands beside an override: the name's other records, and the peer's other names.

use std::net::SocketAddr;

use hickory_proto::rr::RecordType;

use super::lookup;
use crate::scenario::{RecordTable, Records, WorldState};

/// A name and a type that the world holds and that an override must not hide.
pub type Neighbour = (String, RecordType);

/// Everything beside the addresses of `host` that the peer's servers give now.
pub fn neighbours(host: &str, state: &WorldState) -> Vec<Neighbour> {
    let types = |table: &RecordTable| {
        let held = [(RecordType::TXT, !table.txt.is_empty()), (RecordType::MX, !table.mx.is_empty())];
        held.into_iter().filter_map(|(record_type, held)| held.then_some(record_type)).collect::<Vec<_>>()
    };
    let mut neighbours = Vec::new();
    if let Records::Table(table) = &state.authoritative.records {
        neighbours.extend(types(table).into_iter().map(|record_type| (host.to_owned(), record_type)));
    }
    for (name, held) in &state.names {
        let Records::Table(table) = &held.records else { continue };
        let addresses = [(RecordType::A, &table.a), (RecordType::AAAA, &table.aaaa)];
        let addresses = addresses.into_iter().filter_map(|(kind, labels)| (!labels.is_empty()).then_some(kind));
        neighbours.extend(addresses.chain(types(table)).map(|kind| (name.clone(), kind)));
    }
    neighbours
}

/// What `ours` does not answer as `resolver` does, in a sentence each.
pub async fn lost(ours: SocketAddr, resolver: SocketAddr, neighbours: &[Neighbour]) -> Vec<String> {
    let mut lost = Vec::new();
    for (name, record_type) in neighbours {
        let (given, wanted) =
            tokio::join!(lookup::records(ours, name, *record_type), lookup::records(resolver, name, *record_type));
        match (given, wanted) {
            (Ok(given), Ok(wanted)) if given == wanted && !wanted.is_empty() => {}
            (Ok(given), Ok(wanted)) => {
                lost.push(format!("{name} {record_type} is {given:?}, and {wanted:?} without it"))
            }
            (Err(error), _) | (_, Err(error)) => lost.push(format!("{name} {record_type} is not answered: {error}")),
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::world::{Slot, World};

    const WORLD: &str = r#"
id = "T"
title = "t"
[peer]
url = "https://api.peer.test/health"
[world]
authoritative = { A = ["h-1"], TXT = ["v=spf1 -all"], MX = ["mail.peer.test"], ttl = 0 }
names."cdn.api.peer.test" = { A = ["h-1"], ttl = 0 }
names."gone.peer.test" = "nxdomain"
hosts.h-1 = "serve"
"#;

    #[tokio::test]
    async fn what_one_server_denies_and_the_other_gives_is_lost() {
        let scenario = Scenario::parse(WORLD, "t.toml").unwrap();
        let mut world = World::start(&scenario, Slot::claim().unwrap()).await.unwrap();
        let neighbours = neighbours(scenario.host(), &world.state());
        let named: Vec<String> = neighbours.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        assert_eq!(named, ["api.peer.test TXT", "api.peer.test MX", "cdn.api.peer.test A"]);
        assert!(lost(world.resolver(), world.resolver(), &neighbours).await.is_empty());
        // A resolver that knows nothing of the peer stands for a server that hides everything.
        let change = WORLD.replace("[world]", "[world]\nindependent.i-1 = \"nxdomain\"");
        world.apply(&Scenario::parse(&change, "t.toml").unwrap().world).await.unwrap();
        let blind = world.independent(1);
        let lost = lost(blind, world.resolver(), &neighbours).await;
        assert_eq!(lost.len(), neighbours.len(), "{lost:?}");
    }
}
