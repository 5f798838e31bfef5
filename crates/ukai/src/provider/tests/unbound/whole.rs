//! Listings: one that is not whole is none.

use super::between::{Between, Step};
use super::written::server;
use super::{claim, direct, through};
use crate::provider::tests::bench::{HOST, mine, served};
use crate::provider::unbound::Unbound;

/// More TLS records than a listing has.
const RECORDS: usize = 2000;

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_cut_off_anywhere_is_an_error() {
    let server = server();
    direct(&server).put(&claim(&served("ovr-1", &["192.0.2.1"])), None).await.unwrap();
    let before = server.local().unwrap();
    for listing in [0, 1] {
        for records in 0..RECORDS {
            // What comes after the listings is not made.
            let between = Between::start(server.control(), move |nth| match nth {
                _ if nth == listing => Step::Cut(records),
                0 | 1 => Step::Pass,
                _ => Step::Close,
            })
            .await;
            let taken = Unbound::new(through(&server, between.address)).take(&mine("ovr-1", 1)).await;
            let told = taken.unwrap_err();
            if !between.has_cut() {
                assert_eq!(between.commands(), 3, "the whole listing is taken: {told}");
                break;
            }
            assert_eq!(between.commands(), listing + 1, "listing {listing} after {records} records: {told}");
            assert!(told.passing, "{told}");
        }
    }
    assert_eq!(server.local().unwrap(), before);
}

#[tokio::test]
async fn a_listing_that_is_too_long_or_lacks_what_is_always_there_is_an_error() {
    let server = server();
    direct(&server).put(&claim(&served("ovr-1", &["192.0.2.1"])), None).await.unwrap();
    let before = server.local().unwrap();
    let longest = |name| server.command(&[name]).unwrap().len() as u64;
    let whole = longest("list_local_zones").max(longest("list_local_data"));
    let limited = |octets| Unbound::new(through(&server, server.control()).with_answer_bytes(octets));
    let told = limited(whole - 1).take(&mine("ovr-1", 1)).await.unwrap_err();
    assert!(told.text.contains("octets") && !told.passing, "{told}");
    limited(whole).answers(HOST).await.unwrap();
    assert_eq!(server.local().unwrap(), before);

    server.command(&["local_zone_remove", "invalid"]).unwrap();
    let told = direct(&server).take(&mine("ovr-1", 1)).await.unwrap_err();
    assert!(told.text.contains("invalid") && !told.passing, "{told}");
}
