//! What was read and what is wanted, made into one UPDATE whose prerequisites say what was read.

use std::collections::BTreeSet;

use ukai_dns::RecordType;
use ukai_dns::update::{Change, Prerequisite, Update, ZoneRecord};

use super::{Names, Standing, list};
use crate::provider::claim::Claim;

const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// Refuses where something else stands than what is to be replaced.
pub fn put(standing: &Standing, names: &Names, claim: &Claim, replaces: Option<u64>) -> Result<Update, String> {
    let wanted = records(names, claim);
    if standing.is_empty() {
        return match replaces {
            None => Ok(Update {
                prerequisites: vec![
                    Prerequisite::NameNotInUse(names.policy.clone()),
                    Prerequisite::NameNotInUse(names.mark.clone()),
                ],
                changes: wanted.into_iter().map(Change::Add).collect(),
            }),
            Some(generation) => {
                Err(format!("generation {generation} was expected for {}, but no such override stands", claim.host))
            }
        };
    }
    let there = standing.claim(&claim.host).ok_or_else(|| {
        format!(
            "{} stands at {} and is not ours: take it away by hand if it may go",
            list(standing.records.iter().chain(&standing.marks)),
            claim.host
        )
    })?;
    if !there.is_of(&claim.owner, &claim.id) {
        return Err(format!("{} stands there", there.told()));
    }
    // Where it is this very generation, an earlier try was cut off, or somebody changed what it had made.
    if Some(there.generation) != replaces {
        let expected = replaces.map_or("nothing".to_owned(), |generation| format!("generation {generation}"));
        return Err(format!("{expected} was expected, and {} stands there", there.told()));
    }
    if !standing.strangers(&there).is_empty() || standing.addresses() != there.addresses {
        return Err(format!(
            "somebody changed what stands at {}: {} where {} was written; put it back or take it away",
            claim.host,
            list(&standing.records),
            there.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    let before: BTreeSet<&ZoneRecord> = standing.records.iter().chain(&standing.marks).collect();
    let after: BTreeSet<&ZoneRecord> = wanted.iter().collect();
    let gone = before.difference(&after).map(|record| delete(record));
    let new = after.difference(&before).map(|record| Change::Add((*record).clone()));
    Ok(Update { prerequisites: as_read(standing, names), changes: gone.chain(new).collect() })
}

/// Only what we wrote, and only while the ownership record is the one that was read. What else is at its name stays there.
pub fn take(standing: &Standing, names: &Names, claim: &Claim) -> Update {
    let ours = standing
        .records
        .iter()
        .filter(|record| record.as_address().is_some_and(|address| claim.addresses.contains(&address)));
    let texts = standing.marks.iter().filter(|record| record.rtype == RecordType::TXT);
    let own = texts.clone().filter(|record| {
        let there = record.texts().and_then(|texts| Claim::read(&claim.host, &texts));
        there.is_some_and(|there| there.is_of(&claim.owner, &claim.id))
    });
    let data = texts.map(|record| record.data.clone()).collect();
    Update {
        prerequisites: vec![Prerequisite::Exactly { name: names.mark.clone(), rtype: RecordType::TXT, data }],
        changes: ours.chain(own).map(delete).collect(),
    }
}

fn records(names: &Names, claim: &Claim) -> Vec<ZoneRecord> {
    let addresses =
        claim.addresses.iter().map(|address| ZoneRecord::address(names.policy.clone(), claim.ttl_s, *address));
    addresses.chain([ZoneRecord::txt(names.mark.clone(), claim.ttl_s, claim.texts())]).collect()
}

fn as_read(standing: &Standing, names: &Names) -> Vec<Prerequisite> {
    let of = |records: &[ZoneRecord], rtype: RecordType| -> Vec<Vec<u8>> {
        records.iter().filter(|record| record.rtype == rtype).map(|record| record.data.clone()).collect()
    };
    let mut prerequisites = vec![Prerequisite::Exactly {
        name: names.mark.clone(),
        rtype: RecordType::TXT,
        data: of(&standing.marks, RecordType::TXT),
    }];
    for rtype in FAMILIES {
        let data = of(&standing.records, rtype);
        let name = names.policy.clone();
        prerequisites.push(match data.is_empty() {
            true => Prerequisite::Absent(name, rtype),
            false => Prerequisite::Exactly { name, rtype, data },
        });
    }
    prerequisites
}

fn delete(record: &ZoneRecord) -> Change {
    Change::Delete { name: record.name.clone(), rtype: record.rtype, data: record.data.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::claim::tests::claim;

    fn names() -> Names {
        Names { policy: "api.peer.test.rpz".parse().unwrap(), mark: "api.peer.test._ukai.invalid.rpz".parse().unwrap() }
    }

    fn standing(claim: &Claim) -> Standing {
        let (marks, records) = records(&names(), claim).into_iter().partition(|record| record.rtype == RecordType::TXT);
        Standing { records, marks }
    }

    #[test]
    fn a_free_name_is_claimed_and_only_a_free_one() {
        let update = put(&Standing::default(), &names(), &claim(), None).unwrap();
        assert_eq!(update.prerequisites.len(), 2);
        assert_eq!(update.changes.len(), 3);
        let expected = put(&Standing::default(), &names(), &claim(), Some(1)).unwrap_err();
        assert!(expected.contains("generation 1"), "{expected}");
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let foreign = Standing { marks: Vec::new(), ..standing(&claim()) };
        let theirs = standing(&Claim { owner: "ffffffffffffffff".into(), ..claim() });
        let other = standing(&Claim { id: "ovr-9".into(), ..claim() });
        for standing in [foreign, theirs, other] {
            assert!(put(&standing, &names(), &claim(), None).is_err(), "{standing:?}");
            assert!(put(&standing, &names(), &Claim { generation: 2, ..claim() }, Some(1)).is_err());
        }
    }

    #[test]
    fn a_change_names_what_it_read_and_makes_the_difference_only() {
        let wanted = Claim {
            generation: 2,
            addresses: ["192.0.2.7", "192.0.2.8"].iter().map(|text| text.parse().unwrap()).collect(),
            ..claim()
        };
        let update = put(&standing(&claim()), &names(), &wanted, Some(1)).unwrap();
        assert_eq!(update.prerequisites.len(), 3);
        let (deleted, added): (Vec<_>, Vec<_>) =
            update.changes.iter().partition(|change| matches!(change, Change::Delete { .. }));
        assert_eq!(
            (deleted.len(), added.len()),
            (2, 2),
            "the IPv6 address and the mark go; an address and a mark come"
        );
        assert!(put(&standing(&claim()), &names(), &wanted, Some(2)).is_err());
    }

    #[test]
    fn what_was_changed_under_us_is_not_overwritten() {
        let mut drifted = standing(&claim());
        drifted.records.remove(0);
        let why = put(&drifted, &names(), &Claim { generation: 2, ..claim() }, Some(1)).unwrap_err();
        assert!(why.contains("somebody changed"), "{why}");
    }

    #[test]
    fn only_what_is_ours_is_taken_away() {
        let mut with_stranger = standing(&claim());
        let stranger = ZoneRecord::address(names().policy, 10, "198.51.100.1".parse().unwrap());
        with_stranger.records.push(stranger.clone());
        let update = take(&with_stranger, &names(), &claim());
        assert_eq!(update.changes.len(), 3);
        assert!(!update.changes.contains(&delete(&stranger)));
    }

    #[test]
    fn what_somebody_put_beside_the_mark_neither_goes_nor_keeps_it() {
        let mut beside = standing(&claim());
        let text = ZoneRecord::txt(names().mark, 10, ["v=spf1 -all"]);
        let address = ZoneRecord::address(names().mark, 10, "198.51.100.1".parse().unwrap());
        beside.marks.extend([text.clone(), address.clone()]);
        let update = take(&beside, &names(), &claim());
        assert_eq!(update.changes.len(), 3);
        for foreign in [text, address] {
            assert!(!update.changes.contains(&delete(&foreign)));
        }
        let [Prerequisite::Exactly { data, .. }] = update.prerequisites.as_slice() else { panic!("{update:?}") };
        assert_eq!(data.len(), 2, "both texts, and nothing that is no TXT");
    }
}
