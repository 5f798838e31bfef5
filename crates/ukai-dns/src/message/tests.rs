use proptest::prelude::*;

use super::*;

fn question() -> Question {
    Question::new("api.peer.test", RecordType::A).unwrap()
}

fn parse(bytes: Vec<u8>) -> Result<Reply, String> {
    Reply::parse(&question(), Transport::Udp, "127.0.0.1:53".parse().unwrap(), bytes).map_err(|(cause, _)| cause)
}

/// api.peer.test CNAME x.cdn.test, x.cdn.test A ×2, an unrelated A, HTTPS with hints, a SOA, and an OPT with EDE and NSID.
fn good() -> Vec<u8> {
    let mut out = vec![0, 7, 0x84, 0x80, 0, 1, 0, 5, 0, 1, 0, 1];
    out.extend_from_slice(b"\x03api\x04peer\x04test\x00\x00\x01\x00\x01");
    let record = |out: &mut Vec<u8>, owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]| {
        out.extend_from_slice(owner);
        out.extend_from_slice(&rtype.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        out.extend_from_slice(rdata);
    };
    record(&mut out, &[0xc0, 12], 5, 300, b"\x01x\x03cdn\x04test\x00");
    record(&mut out, b"\x01X\x03CDN\x04test\x00", 1, 60, &[192, 0, 2, 1]);
    record(&mut out, b"\x01x\x03cdn\x04test\x00", 1, 0x8000_0001, &[192, 0, 2, 2]);
    record(&mut out, b"\x05other\x00", 1, 60, &[192, 0, 2, 66]);
    record(
        &mut out,
        b"\x01x\x03cdn\x04test\x00",
        65,
        60,
        &[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2', 0, 4, 0, 4, 192, 0, 2, 9],
    );
    let mut soa = b"\x02ns\x00\x01h\x00".to_vec();
    for value in [42u32, 1, 2, 3, 30] {
        soa.extend_from_slice(&value.to_be_bytes());
    }
    record(&mut out, &[0xc0, 16], 6, 600, &soa);
    let mut opt = Opt::default();
    opt.push(wire::OPTION_EXTENDED_ERROR, b"\x00\x04made by policy");
    opt.push(wire::OPTION_NSID, b"ns-1");
    opt.push(wire::OPTION_CLIENT_SUBNET, &[0, 1, 24, 16, 192, 0, 2]);
    opt.compose(&mut out);
    out
}

/// The question, and as many CNAMEs as there are pairs.
fn aliases(pairs: &[(&str, &str)]) -> Reply {
    let mut out = vec![0, 7, 0x84, 0x80, 0, 1, 0, u8::try_from(pairs.len()).unwrap(), 0, 0, 0, 0];
    out.extend_from_slice(b"\x03api\x04peer\x04test\x00\x00\x01\x00\x01");
    for (owner, target) in pairs {
        let target: Name = target.parse().unwrap();
        out.extend_from_slice(owner.parse::<Name>().unwrap().as_wire());
        out.extend_from_slice(&[0, 5, 0, 1, 0, 0, 0, 60]);
        out.extend_from_slice(&u16::try_from(target.as_wire().len()).unwrap().to_be_bytes());
        out.extend_from_slice(target.as_wire());
    }
    parse(out).unwrap()
}

#[test]
fn aliases_without_an_end_are_no_absence() {
    let once = aliases(&[("api.peer.test", "b.test")]);
    assert_eq!((once.endless_aliases(), once.is_nodata()), (None, true));
    let itself = aliases(&[("api.peer.test", "api.peer.test")]);
    assert_eq!(itself.endless_aliases().unwrap(), "the CNAMEs come back to api.peer.test");
    let ring = aliases(&[("api.peer.test", "b.test"), ("b.test", "c.test"), ("c.test", "b.test")]);
    assert_eq!((ring.endless_aliases().unwrap().as_str(), ring.is_nodata()), ("the CNAMEs come back to b.test", false));
    let names: Vec<String> =
        std::iter::once("api.peer.test".to_owned()).chain((0..20).map(|n| format!("{n}.test"))).collect();
    let chain = |length: usize| {
        let pairs: Vec<(&str, &str)> = names.windows(2).take(length).map(|pair| (&*pair[0], &*pair[1])).collect();
        aliases(&pairs)
    };
    assert_eq!(chain(MAX_CHAIN).endless_aliases(), None);
    assert_eq!(chain(MAX_CHAIN + 1).endless_aliases().unwrap(), "there are more than 16 CNAMEs");
}

#[test]
fn everything_is_read() {
    let reply = parse(good()).unwrap();
    assert_eq!(reply.rcode, Rcode::NOERROR);
    assert!(reply.authoritative && reply.recursion_available && reply.edns && !reply.truncated);
    assert_eq!(reply.cname_chain(), ["x.cdn.test"]);
    // The address of `other` is nobody's answer.
    assert_eq!(reply.addresses(), ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap()));
    assert_eq!(reply.min_ttl(), Some(0));
    let soa = reply.soa.unwrap();
    assert_eq!((soa.zone, soa.serial, soa.minimum, soa.ttl), ("peer.test".parse().unwrap(), 42, 30, 600));
    assert_eq!(reply.extended_errors, [ExtendedError::new(4, "made by policy")]);
    assert_eq!((reply.nsid.as_deref(), reply.subnet_scope), (Some("ns-1"), Some(16)));
    let Data::Https { text, hints } = &reply.answers[4].data else { panic!("no HTTPS record") };
    assert_eq!(hints, &["192.0.2.9".parse::<IpAddr>().unwrap()]);
    assert!(text.contains("alpn"), "{text}");
    assert!(reply.additional.is_empty());
}

#[test]
fn a_cname_loop_ends() {
    let mut reply = parse(good()).unwrap();
    let cname =
        |from: &str, to: &str| Record { name: from.parse().unwrap(), ttl: 1, data: Data::Cname(to.parse().unwrap()) };
    reply.answers = vec![cname("api.peer.test", "a.test"), cname("a.test", "b.test"), cname("b.test", "a.test")];
    assert_eq!(reply.cname_chain().len(), 2);
    assert!(reply.addresses().is_empty());
    reply.answers = (0..100).map(|n| cname(&format!("n{n}.test"), &format!("n{}.test", n + 1))).collect();
    reply.question.name = "n0.test".parse().unwrap();
    assert_eq!(reply.cname_chain().len(), MAX_CHAIN);
}

#[test]
fn ten_thousand_records_are_the_limit() {
    let mut bytes = good();
    bytes[6..8].copy_from_slice(&10_001u16.to_be_bytes());
    assert!(parse(bytes.clone()).unwrap_err().contains("more than the 10000"));
    bytes[6..8].copy_from_slice(&9_000u16.to_be_bytes());
    assert!(parse(bytes).unwrap_err().contains("cannot be read"));
}

#[test]
fn a_truncated_message_may_end_anywhere() {
    let mut bytes = good();
    bytes.truncate(60);
    assert!(parse(bytes.clone()).is_err());
    bytes[2] |= 0x02;
    assert!(parse(bytes).unwrap().truncated);
}

#[test]
fn only_the_reply_to_the_query_matches() {
    let good = good();
    assert!(matches_query(7, &question(), &good));
    assert!(!matches_query(8, &question(), &good));
    assert!(!matches_query(7, &Question::new("api.peer.test", RecordType::AAAA).unwrap(), &good));
    assert!(!matches_query(7, &Question::new("www.peer.test", RecordType::A).unwrap(), &good));
    let mut not_a_response = good;
    not_a_response[2] &= 0x7f;
    assert!(!matches_query(7, &question(), &not_a_response));
}

#[test]
fn a_query_as_the_other_library_reads_it() {
    use hickory_proto::op::Message as Theirs;
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    let options = AskOptions {
        checking_disabled: true,
        dnssec_ok: true,
        nsid: true,
        client_subnet: Some("198.51.100.0/24".parse().unwrap()),
        ..AskOptions::default()
    };
    let theirs = Theirs::from_vec(&compose_query(99, &question(), &options, true)).unwrap();
    assert_eq!(theirs.metadata.id, 99);
    assert!(theirs.metadata.recursion_desired && theirs.metadata.checking_disabled && !theirs.metadata.authentic_data);
    assert_eq!(theirs.queries[0].name().to_string(), "api.peer.test.");
    let edns = theirs.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
    assert!(edns.option(EdnsCode::NSID).is_some());
    let Some(EdnsOption::Subnet(subnet)) = edns.option(EdnsCode::Subnet) else { panic!("no client subnet") };
    assert_eq!((subnet.addr(), subnet.source_prefix()), ("198.51.100.0".parse().unwrap(), 24));
    let plain = Theirs::from_vec(&compose_query(1, &question(), &AskOptions::default(), false)).unwrap();
    assert!(plain.edns.is_none());
}

#[test]
fn a_cname_that_was_asked_for_is_no_absence() {
    let mut reply = parse(good()).unwrap();
    assert!(!reply.is_nodata());
    reply.question.qtype = RecordType::CNAME;
    assert!(!reply.is_nodata());
    reply.question.qtype = RecordType::TXT;
    assert!(reply.is_nodata());
}

proptest! {
    #[test]
    fn any_bytes_end_well(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        use_all_of(parse(bytes));
    }

    #[test]
    fn any_change_to_a_good_message_ends_well(changes in proptest::collection::vec((0..230usize, any::<u8>()), 1..6), cut in 0..230usize) {
        let mut bytes = good();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if cut > 20 {
            bytes.truncate(cut);
        }
        use_all_of(parse(bytes));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_shown_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(dump(&bytes).map_or(0, |text| text.len()) <= DUMP_MAX + 100);
    }

    #[test]
    fn any_change_to_a_good_message_is_shown(changes in proptest::collection::vec((0..230usize, any::<u8>()), 1..6), cut in 12..230usize) {
        let mut bytes = good();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let text = dump(&bytes).unwrap();
        prop_assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'), "{text:?}");
    }
}

#[test]
fn a_message_is_shown_with_its_flags_options_and_sections() {
    let text = dump(&good()).unwrap();
    for part in ["HEADER", "NSID", "EDE", "QUESTION", "api.peer.test", "CNAME", "192.0.2.2", "SOA"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(dump(&[0; 11]).is_err());
}

#[test]
fn a_message_that_is_long_to_read_is_cut() {
    let mut bytes = vec![0, 7, 0x84, 0, 0, 1, 0x0f, 0xff, 0, 0, 0, 0];
    for _ in 0..3 {
        bytes.push(63);
        bytes.extend([b'\xff'; 63]);
    }
    bytes.extend([0, 0, 2, 0, 1]);
    for _ in 0..0xfff {
        bytes.extend([0xc0, 12, 0, 2, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12]);
    }
    let text = dump(&bytes).unwrap();
    assert!(text.len() <= DUMP_MAX + 100 && text.contains("left out"), "{}", text.len());
}

fn use_all_of(parsed: Result<Reply, String>) {
    let Ok(reply) = parsed else { return };
    assert!(reply.answers.len() <= MAX_RECORDS);
    assert!(reply.cname_chain().len() <= MAX_CHAIN);
    assert!(reply.addresses().len() <= reply.answers.len());
    let (nodata, referral) = (reply.is_nodata(), reply.is_referral());
    assert!(!(nodata && referral));
    serde_json::to_string(&reply).unwrap();
}
