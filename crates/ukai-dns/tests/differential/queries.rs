//! What is asked: everything that a client may come up with, from one seed.

use crate::zone::HOSTS;

pub struct Sent {
    /// A word for the kind of question.
    pub kind: &'static str,
    pub bytes: Vec<u8>,
    /// A server may leave it unanswered.
    pub may_be_dropped: bool,
}

const PLAIN: usize = 20_000;
const EACH_ODD: usize = 100;
const MALFORMED: usize = 2_000;

/// SplitMix64: the same numbers for ever.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const TYPES: [u16; 28] =
    [1, 1, 1, 28, 28, 2, 5, 6, 12, 13, 15, 16, 16, 17, 29, 33, 35, 39, 43, 44, 48, 50, 52, 64, 65, 99, 257, 65_280];
/// Types that only questions have, and the reserved zero.
const META: [u16; 9] = [0, 41, 128, 249, 250, 251, 252, 253, 254];
const PAYLOADS: [u16; 9] = [0, 511, 512, 513, 1_220, 1_232, 1_233, 4_096, 65_535];

pub fn generate(seed: u64) -> Vec<Sent> {
    let mut random = Random::new(seed);
    let mut sent: Vec<Sent> = (0..PLAIN).map(|_| plain(&mut random)).collect();
    for _ in 0..EACH_ODD {
        sent.extend(odd(&mut random));
    }
    for _ in 0..MALFORMED {
        sent.push(malformed(&mut random));
    }
    // Neighbours have different ids.
    for (index, sent) in sent.iter_mut().enumerate() {
        if let Some(id) = sent.bytes.first_chunk_mut::<2>() {
            *id = (index as u16).to_be_bytes();
        }
    }
    sent
}

/// A question as some client may well ask it.
fn plain(random: &mut Random) -> Sent {
    let name = name(random);
    let mut query = Query { qtype: random.pick(&TYPES), ..Query::of(&name) };
    query.mix_case(random);
    query.checking_disabled = random.one_in(4);
    query.authentic_data = random.one_in(4);
    if !random.one_in(3) {
        query.edns = Some(Edns {
            payload: random.pick(&PAYLOADS),
            version: 0,
            dnssec_ok: random.one_in(4),
            options: options(random),
        });
    }
    let kind = match query.qtype {
        43 | 48 | 50 => "dnssec type",
        39 => "dname",
        _ if name.ends_with(".below.zone.example") => "dname",
        _ => "plain",
    };
    query.sent(kind)
}

fn options(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        // NSID, client subnet, a client's cookie, padding, one that nobody knows, and two of them.
        0 => vec![0, 3, 0, 0],
        1 => vec![0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2],
        2 => vec![0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        3 => vec![0, 12, 0, 3, 0, 0, 0],
        4 => vec![0xfd, 0xe9, 0, 2, 1, 2],
        5 => vec![0xfd, 0xe9, 0, 0, 0xfd, 0xea, 0, 1, 7],
        _ => Vec::new(),
    }
}

fn name(random: &mut Random) -> String {
    let n = random.below(HOSTS);
    let first = match random.below(18) {
        0..4 => format!("h{n}"),
        4 | 5 => format!("big{n}"),
        6 => format!("MixedCase{n}"),
        7 => format!("alias{n}"),
        8 | 9 => format!("chain{n}"),
        10 => format!("dangling{n}"),
        11 => random.pick(&["empty", "b.empty", "a.b.empty"]).to_owned() + &n.to_string(),
        12 => format!("x{n}.wild"),
        13 => format!("x.y{n}.walias"),
        14 => format!("h{n}.below"),
        15 => random.pick(&["below", "below2", "nowhere"]).to_owned(),
        16 => format!("below.h{n}"),
        _ => format!("no{}", random.below(100_000)),
    };
    match random.below(60) {
        0 => ".".to_owned(),
        1 => "zone.example".to_owned(),
        2 => format!("no{n}"),
        _ => format!("{first}.zone.example"),
    }
}

/// One of each kind that is well-formed and still not what a resolver is for.
fn odd(random: &mut Random) -> Vec<Sent> {
    // Nothing about the name is odd, so that what differs is due to the rest.
    let base = Query { qtype: 1, ..Query::of(&format!("h{}.zone.example", random.below(HOSTS))) };
    let with = |kind, change: &mut dyn FnMut(&mut Query)| {
        let mut query = base.clone();
        change(&mut query);
        query.sent(kind)
    };
    let meta = random.pick(&META);
    let (opcode, class) = (random.pick(&[1, 2, 3, 6, 15]), random.pick(&[0, 2, 4, 254, 999]));
    let (version, count) = (random.pick(&[1, 2, 255]), random.pick(&[0, 2, 3, 65_535]));
    let alias = random.pick(&["loop1.zone.example", "loop2.zone.example", "self.zone.example"]);
    let deep = 8 + random.below(4);
    let cookie_len = random.pick(&[0, 7, 9, 15, 41]);
    let edns = Edns { payload: 1_232, version: 0, dnssec_ok: false, options: Vec::new() };
    let mut cookie = vec![0, 10, 0, cookie_len];
    cookie.extend(std::iter::repeat_n(1, usize::from(cookie_len)));
    vec![
        with("edns version", &mut |query| query.edns = Some(Edns { version, ..edns.clone() })),
        with("cookie length", &mut |query| query.edns = Some(Edns { options: cookie.clone(), ..edns.clone() })),
        with("option past the end", &mut |query| {
            query.edns = Some(Edns { options: vec![0, 3, 0, 9, 1], ..edns.clone() });
        }),
        with("two opt", &mut |query| {
            (query.edns, query.second_opt) = (Some(edns.clone()), true);
        }),
        with("any", &mut |query| query.qtype = 255),
        with("meta type", &mut |query| query.qtype = meta),
        with("class ch", &mut |query| query.class = 3),
        with("class any", &mut |query| query.class = 255),
        with("class", &mut |query| query.class = class),
        with("opcode", &mut |query| query.opcode = opcode),
        with("notify", &mut |query| query.opcode = 4),
        with("update", &mut |query| query.opcode = 5),
        with("no recursion", &mut |query| query.recursion_desired = false),
        with("reserved bit", &mut |query| query.reserved = true),
        with("aa tc", &mut |query| query.answer_flags = true),
        with("questions", &mut |query| query.questions = count),
        with("octets behind", &mut |query| query.behind = vec![1, 2, 3]),
        with("an answer in the question", &mut |query| query.answer = true),
        with("a record in authority", &mut |query| query.authority = true),
        with("payload of 1", &mut |query| query.edns = Some(Edns { payload: 1, ..edns.clone() })),
        with("long chain", &mut |query| query.name = wire(&format!("deep{deep}.zone.example"))),
        with("alias loop", &mut |query| query.name = wire(alias)),
        with("version.bind", &mut |query| {
            (query.class, query.qtype) = (3, 16);
            query.name = wire("version.bind");
        }),
    ]
}

/// A question with some octets changed, or an end that is missing.
fn malformed(random: &mut Random) -> Sent {
    let mut sent = plain(random);
    match random.below(4) {
        0 => sent.bytes.truncate(random.below(sent.bytes.len())),
        1 => sent.bytes = (0..random.below(80)).map(|_| random.next() as u8).collect(),
        _ => {
            for _ in 0..1 + random.below(4) {
                let at = 2 + random.below(sent.bytes.len() - 2);
                sent.bytes[at] = random.next() as u8;
            }
        }
    }
    Sent { kind: "malformed", may_be_dropped: true, ..sent }
}

#[derive(Clone)]
struct Edns {
    payload: u16,
    version: u8,
    dnssec_ok: bool,
    options: Vec<u8>,
}

#[derive(Clone, Default)]
struct Query {
    name: Vec<u8>,
    qtype: u16,
    class: u16,
    opcode: u8,
    questions: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    authentic_data: bool,
    reserved: bool,
    answer_flags: bool,
    answer: bool,
    authority: bool,
    edns: Option<Edns>,
    second_opt: bool,
    behind: Vec<u8>,
}

impl Query {
    fn of(name: &str) -> Self {
        Self { name: wire(name), class: 1, questions: 1, recursion_desired: true, ..Self::default() }
    }

    fn mix_case(&mut self, random: &mut Random) {
        for octet in self.name.iter_mut().filter(|octet| octet.is_ascii_alphabetic()) {
            if random.one_in(2) {
                *octet ^= 0x20;
            }
        }
    }

    fn sent(&self, kind: &'static str) -> Sent {
        let answer_flags = if self.answer_flags { 6 } else { 0 };
        let flags = self.opcode << 3 | u8::from(self.recursion_desired) | answer_flags;
        let more =
            u8::from(self.reserved) << 6 | u8::from(self.authentic_data) << 5 | u8::from(self.checking_disabled) << 4;
        let additional = u8::from(self.edns.is_some()) + u8::from(self.second_opt);
        let mut bytes = vec![0, 0, flags, more];
        bytes.extend(self.questions.to_be_bytes());
        bytes.extend([0, u8::from(self.answer), 0, u8::from(self.authority), 0, additional]);
        for _ in 0..self.questions.min(3) {
            bytes.extend(&self.name);
            bytes.extend(self.qtype.to_be_bytes());
            bytes.extend(self.class.to_be_bytes());
        }
        for _ in 0..u8::from(self.answer) + u8::from(self.authority) {
            bytes.extend(b"\x01a\x00\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\xc0\x00\x02\x01");
        }
        for _ in 0..additional {
            let Some(edns) = &self.edns else { continue };
            bytes.extend([0, 0, 41]);
            bytes.extend(edns.payload.to_be_bytes());
            bytes.extend([0, edns.version, u8::from(edns.dnssec_ok) << 7, 0]);
            bytes.extend((edns.options.len() as u16).to_be_bytes());
            bytes.extend(&edns.options);
        }
        bytes.extend(&self.behind);
        Sent { kind, bytes, may_be_dropped: !matches!(kind, "plain" | "dname" | "dnssec type") }
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}
