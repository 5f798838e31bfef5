//! The world seen from outside, by clients that share nothing with it.

mod client;
mod dns;
mod hosts;
mod resolvers;
mod whole;

use super::{Slot, World};
use crate::scenario::{Scenario, WorldChange};

/// A world for `lines`, which stand in `[world]`.
async fn world(lines: &str) -> World {
    start(&scenario("", lines)).await
}

async fn start(text: &str) -> World {
    let scenario = Scenario::parse(text, "test.toml").unwrap();
    World::start(&scenario, Slot::claim().unwrap()).await.unwrap()
}

fn scenario(peer: &str, world: &str) -> String {
    format!("id = \"T\"\ntitle = \"t\"\n[peer]\nurl = \"https://api.peer.test/health\"\n{peer}\n[world]\n{world}\n")
}

/// What `lines` would change in a fault; the labels in them must be hosts of `world`.
fn change(world: &World, lines: &str) -> WorldChange {
    let hosts: String = world.state().hosts.keys().map(|label| format!("hosts.{label} = {{}}\n")).collect();
    let servers: String = world.state().servers.keys().map(|name| format!("servers.{name} = \"serve\"\n")).collect();
    let text = format!("{}\n[[fault]]\nat = \"1s\"\n{lines}\n", scenario("", &format!("{hosts}{servers}")));
    Scenario::parse(&text, "fault.toml").unwrap().faults.remove(0).change
}

async fn fault(world: &mut World, lines: &str) {
    let change = change(world, lines);
    world.apply(&change).await.unwrap();
}
