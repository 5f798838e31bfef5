//! One TCP connection for one request: sent, answered, and the answer's signature checked.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::base::Message;
use domain::base::iana::{Opcode, TsigRcode};
use domain::base::message_builder::AdditionalBuilder;
use domain::base::name::ParsedName;
use domain::rdata::tsig::{Time48, Tsig};
use domain::tsig::{ClientSequence, ValidationError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::{A_QUERY, A_TRANSFER, AN_UPDATE};
use super::message::{self, Request};
use super::{
    Answer, EXCHANGE_TIMEOUT, MAX_ZONE_BYTES, MAX_ZONE_RECORDS, TRANSFER_TIMEOUT, TsigFault, Update, UpdateError,
    ZoneRecord, ZoneServer,
};
use crate::name::Name;
use crate::types::{Rcode, RecordType};

/// RFC 2136, 2.2: a prerequisite did not hold.
const PREREQUISITES: [Rcode; 4] = [Rcode::NXDOMAIN, Rcode(6), Rcode(7), Rcode(8)];
const NOTAUTH: Rcode = Rcode(9);
/// Type 252 (RFC 5936).
const AXFR: RecordType = RecordType(252);

pub async fn update(server: &ZoneServer, update: &Update) -> Result<(), UpdateError> {
    let request = server.sign(|id| message::update(id, &server.zone, update))?;
    let answer = server.ask(request, EXCHANGE_TIMEOUT).await?;
    match rcode(&answer) {
        Rcode::NOERROR => Ok(()),
        rcode if PREREQUISITES.contains(&rcode) => {
            Err(UpdateError::Prerequisite { server: server.address, zone: server.zone.clone(), rcode })
        }
        rcode => Err(server.refused(rcode, AN_UPDATE)),
    }
}

pub async fn query(server: &ZoneServer, name: &Name, rtype: RecordType) -> Result<Answer, UpdateError> {
    let request = server.sign(|id| message::query(id, name, rtype))?;
    let answer = server.ask(request, EXCHANGE_TIMEOUT).await?;
    let rcode = rcode(&answer);
    if !matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN) {
        return Err(server.refused(rcode, A_QUERY));
    }
    let records = server.records(&answer)?;
    let records = records.into_iter().filter(|record| record.name == *name && record.rtype == rtype).collect();
    Ok(Answer { rcode, authoritative: answer.header().aa(), records })
}

pub async fn transfer(server: &ZoneServer) -> Result<Vec<ZoneRecord>, UpdateError> {
    let request = server.sign(|id| message::query(id, &server.zone, AXFR))?;
    match timeout(TRANSFER_TIMEOUT, server.receive_zone(request)).await {
        Ok(zone) => zone,
        Err(_) => Err(server.timeout(TRANSFER_TIMEOUT)),
    }
}

impl ZoneServer {
    fn sign(
        &self,
        compose: impl FnOnce(u16) -> Result<AdditionalBuilder<Vec<u8>>, domain::base::message_builder::PushError>,
    ) -> Result<Request, UpdateError> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|error| self.malformed(&format!("no random id: {error}")))?;
        let id = u16::from_be_bytes(id);
        let too_long = |_| self.malformed("our own message would be too long");
        let mut message = compose(id).map_err(too_long)?;
        let signed = match &self.key {
            Some(key) => Some(ClientSequence::request(key.key(), &mut message, self.now()).map_err(too_long)?),
            None => None,
        };
        Ok(Request { id, bytes: message.finish(), signed })
    }

    /// One request, one answer.
    async fn ask(&self, mut request: Request, bound: Duration) -> Result<Message<Vec<u8>>, UpdateError> {
        let exchange = async {
            let mut stream = self.send(&request).await?;
            let answer = self.receive(&mut stream, &mut request).await?;
            Ok(answer)
        };
        timeout(bound, exchange).await.unwrap_or_else(|_| Err(self.timeout(bound)))
    }

    async fn send(&self, request: &Request) -> Result<TcpStream, UpdateError> {
        let unreachable =
            |cause: io::Error| UpdateError::Unreachable { server: self.address, cause: cause.to_string() };
        let mut stream = TcpStream::connect(self.address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let length = u16::try_from(request.bytes.len()).map_err(|_| self.malformed("our own message is too long"))?;
        // Length and message in one write (RFC 7766, 8).
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&request.bytes);
        stream.write_all(&framed).await.map_err(|cause| self.cut_off(&cause))?;
        Ok(stream)
    }

    async fn receive(&self, stream: &mut TcpStream, request: &mut Request) -> Result<Message<Vec<u8>>, UpdateError> {
        let length = stream.read_u16().await.map_err(|cause| self.cut_off(&cause))?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.map_err(|cause| self.cut_off(&cause))?;
        let mut message = Message::from_octets(bytes).map_err(|_| self.malformed("it is shorter than a header"))?;
        let header = message.header();
        if header.id() != request.id || !header.qr() {
            return Err(self.malformed("it answers something else"));
        }
        if let Some(signed) = &mut request.signed {
            self.check(signed, &mut message)?;
        }
        Ok(message)
    }

    /// A server that does not know the key, or whose refusal is not signed, is heard for what it says is wrong, and for nothing
    /// else.
    fn check(
        &self,
        signed: &mut ClientSequence<std::sync::Arc<domain::tsig::Key>>,
        message: &mut Message<Vec<u8>>,
    ) -> Result<(), UpdateError> {
        let rcode = rcode(message);
        let bad_time = server_time(message);
        let now = self.now();
        let Err(error) = signed.answer(message, now) else { return Ok(()) };
        let fault = match error {
            _ if bad_time.is_some() => TsigFault::BadTime {
                ahead_s: bad_time.flatten().map(|theirs| u64::from(now).cast_signed() - theirs.cast_signed()),
            },
            ValidationError::ServerBadKey | ValidationError::BadKey | ValidationError::BadAlg if rcode == NOTAUTH => {
                TsigFault::BadKey
            }
            ValidationError::ServerBadSig => TsigFault::BadSignature,
            ValidationError::BadTime => TsigFault::BadTime { ahead_s: None },
            ValidationError::ServerUnsigned if !matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN) => {
                let what = if message.header().opcode() == Opcode::UPDATE { AN_UPDATE } else { A_QUERY };
                return Err(self.refused(rcode, what));
            }
            ValidationError::ServerUnsigned => TsigFault::Unsigned,
            _ => TsigFault::Answer,
        };
        Err(UpdateError::Tsig { server: self.address, zone: self.zone.clone(), key: self.key_told(), fault })
    }

    /// Messages until the SOA comes a second time (RFC 5936, 2.2).
    async fn receive_zone(&self, mut request: Request) -> Result<Vec<ZoneRecord>, UpdateError> {
        let mut stream = self.send(&request).await?;
        let (mut zone, mut bytes): (Vec<ZoneRecord>, usize) = (Vec::new(), 0);
        loop {
            let message = match self.receive(&mut stream, &mut request).await {
                Err(UpdateError::Refused { rcode, .. }) => {
                    return Err(self.refused(rcode, A_TRANSFER));
                }
                other => other?,
            };
            match rcode(&message) {
                Rcode::NOERROR => {}
                NOTAUTH => return Err(self.refused(NOTAUTH, A_TRANSFER)),
                rcode => return Err(self.refused(rcode, A_TRANSFER)),
            }
            bytes += message.as_slice().len();
            let records = self.records(&message)?;
            if records.is_empty() {
                return Err(self.malformed("a message of the transfer is empty"));
            }
            for record in records {
                match (zone.first(), record.rtype == RecordType::SOA && record.name == self.zone) {
                    (None, false) => return Err(self.malformed("the transfer does not begin with the SOA")),
                    (Some(_), true) => {
                        if let Some(signed) = request.signed {
                            signed.done().map_err(|_| self.malformed("the end of the transfer is not signed"))?;
                        }
                        return Ok(zone);
                    }
                    _ => zone.push(record),
                }
                if zone.len() > MAX_ZONE_RECORDS || bytes > MAX_ZONE_BYTES {
                    let limit = format!("{MAX_ZONE_RECORDS} records or {} MiB", MAX_ZONE_BYTES >> 20);
                    return Err(UpdateError::TooLarge { server: self.address, zone: self.zone.clone(), limit });
                }
            }
        }
    }

    /// The answer section.
    fn records(&self, message: &Message<Vec<u8>>) -> Result<Vec<ZoneRecord>, UpdateError> {
        let malformed = |_| self.malformed("its records cannot be read");
        let answer = message.answer().map_err(malformed)?;
        let mut records = Vec::new();
        for record in answer {
            let record = record.map_err(malformed)?;
            records.push(ZoneRecord::read(&record).ok_or_else(|| self.malformed("a record cannot be read"))?);
        }
        Ok(records)
    }

    fn now(&self) -> Time48 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // 48 bits hold eight million years.
        Time48::from_u64(now.saturating_add_signed(self.clock_error_s) & 0xffff_ffff_ffff)
    }

    fn refused(&self, rcode: Rcode, what: &'static str) -> UpdateError {
        UpdateError::Refused { server: self.address, zone: self.zone.clone(), rcode, what, key: self.key_told() }
    }

    fn key_told(&self) -> String {
        self.key.as_ref().map(|key| format!("{} ({})", key.name(), key.algorithm())).unwrap_or_default()
    }

    fn timeout(&self, after: Duration) -> UpdateError {
        UpdateError::Timeout { server: self.address, zone: self.zone.clone(), after }
    }

    fn cut_off(&self, cause: &io::Error) -> UpdateError {
        UpdateError::CutOff { server: self.address, zone: self.zone.clone(), cause: cause.to_string() }
    }

    fn malformed(&self, cause: &str) -> UpdateError {
        UpdateError::Malformed { server: self.address, zone: self.zone.clone(), cause: cause.to_owned() }
    }
}

fn rcode(message: &Message<Vec<u8>>) -> Rcode {
    Rcode(u16::from(message.header().rcode().to_int()))
}

/// Set where the answer's TSIG record says BADTIME; inside, the server's time if it says that too (RFC 8945, 5.2.3).
fn server_time(message: &Message<Vec<u8>>) -> Option<Option<u64>> {
    let last = message.additional().ok()?.filter_map(Result::ok).last()?;
    let record = last.to_record::<Tsig<_, ParsedName<_>>>().ok()??;
    let tsig = record.data();
    (tsig.error() == TsigRcode::BADTIME).then(|| tsig.other_time().map(u64::from))
}
