//! The server alone, for measurements and for trying things out: ADDRESS:PORT UPSTREAM STATE-DIR OVERRIDES THREADS.

use std::path::PathBuf;

use ukai_dns::server::{Server, ServerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, dir, overrides, threads] = &args[..] else {
        return Err("serve ADDRESS:PORT UPSTREAM STATE-DIR OVERRIDES THREADS".into());
    };
    let dir = PathBuf::from(dir);
    let control = dir.join("control.sock");
    let mut config = ServerConfig::new(vec![listen.parse()?], vec![upstream.parse()?], dir, control);
    config.threads = threads.parse()?;
    config.overrides_file = Some(overrides.into());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        Server::start(config).await?.run(std::future::pending()).await;
        Ok(())
    })
}
