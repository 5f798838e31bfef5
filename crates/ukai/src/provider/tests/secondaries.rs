//! Secondaries: an override is applied when each listed one has it, and gone when none has it.

use std::time::Duration;

use ukai_dns::update::ZoneServer;
use ukai_lab::servers::{Authority, Key, Kind, Role, ZONE, free_address};

use super::bench::{OWNER, key_of, mine, served, until};
use crate::provider::Taken;
use crate::provider::claim::Claim;
use crate::provider::rfc2136::PolicyZone;

const PAIRS: [(Kind, Kind); 4] =
    [(Kind::Bind, Kind::Bind), (Kind::Bind, Kind::Knot), (Kind::Knot, Kind::Bind), (Kind::PowerDns, Kind::Knot)];
/// A secondary that does not follow is not waited for longer than a test should take.
const SHORT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_change_is_applied_when_every_secondary_has_it() {
    for (kind, following) in PAIRS {
        let key = Key::random("ukai");
        let address = free_address().unwrap();
        let primary = Authority::start(kind, &Role::Primary, &key, &[address]).unwrap();
        let role = Role::Secondary(primary.address());
        let mut secondary = Authority::start_at(address, following, &role, &key, &[]).unwrap();
        until("the secondary has the zone", || async { secondary.zone(&key).is_ok() }).await;
        let before = secondary.zone(&key).unwrap();
        let zone = || {
            let at = ZoneServer::new(primary.address(), ZONE.parse().unwrap(), Some(key_of(&key)));
            PolicyZone::new(at, vec![address])
        };
        let served = served("ovr-1", &["192.0.2.7", "2001:db8::7"]);
        let claim = Claim::of(&served, OWNER, served.expires_at);
        zone().put(&claim, None).await.unwrap();
        assert_eq!(secondary.zone(&key).unwrap(), primary.zone(&key).unwrap(), "{kind:?} {following:?}");
        assert_eq!(zone().answers(&served.host).await.unwrap(), served.addresses);
        assert_eq!(zone().take(&mine("ovr-1", 1)).await.unwrap(), Taken::Gone);
        assert_eq!(secondary.zone(&key).unwrap(), before, "{kind:?} {following:?}");

        secondary.server().freeze().unwrap();
        let told = zone().with_patience(SHORT).put(&claim, None).await.unwrap_err();
        assert!(told.text.contains(&format!("secondary {address}")) && told.passing, "{told}");
        zone().answers(&served.host).await.unwrap_err();
        let told = zone().with_patience(SHORT).take(&mine("ovr-1", 1)).await.unwrap_err();
        assert!(told.text.contains(&format!("secondary {address}")), "{told}");
        secondary.server().thaw().unwrap();
        zone().take(&mine("ovr-1", 1)).await.unwrap();
        assert_eq!(secondary.zone(&key).unwrap(), before);
    }
}
