//! TLS over a connection, by rustls.
//!
//! ureq's own connector uses rustls with rustls's buffers, which take 4 KiB at a time, move what
//! they hold at each, and are made anew for each record. Here rustls works on a buffer that lives
//! as long as the connection, and a record is decrypted where it lies.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, WriteTraffic,
};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

/// Ciphertext at hand, in bytes: two records (RFC 8446, 5.2) and the beginning of a third.
const INCOMING: usize = 36 << 10;

/// Plaintext that ureq reads from, in bytes: as much as the ciphertext at hand becomes. More would
/// only outgrow the processor's cache.
const PLAIN: usize = 36 << 10;

/// Messages of a handshake may be longer than a record; longer ones are refused, in bytes.
const MAX_INCOMING: usize = 128 << 10;

/// Room that is made for a record of our own; more is made where rustls asks for it, in bytes.
const OUTGOING: usize = 1 << 10;

/// Speaks TLS to hosts of `https`. Without a configuration everything is left to the next
/// connector.
#[derive(Clone, Default)]
pub struct TlsConnector(Option<Arc<ClientConfig>>);

impl TlsConnector {
    /// A connector with these roots and this store of sessions.
    pub fn new(config: ClientConfig) -> TlsConnector {
        TlsConnector(Some(Arc::new(config)))
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, Tls<In>>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(line) = chained else {
            return Ok(None);
        };
        let Some(config) = self.0.as_ref().filter(|_| details.needs_tls()) else {
            return Ok(Some(Either::A(line)));
        };
        let host = details.uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| Error::Tls("a host that no certificate can name"))?;
        let mut tls = Tls {
            connection: UnbufferedClientConnection::new(config.clone(), name)?,
            line,
            buffers: LazyBuffers::new(PLAIN, details.config.output_buffer_size()),
            incoming: Vec::new(),
            begin: 0,
            end: 0,
            outgoing: Vec::new(),
            plain: Vec::new(),
            peer_has_closed: false,
        };
        while tls.step(0, details.timeout)? != Step::Idle {}
        Ok(Some(Either::B(tls)))
    }
}

/// A connection under TLS.
pub struct Tls<In> {
    connection: UnbufferedClientConnection,
    line: In,
    /// Plaintext, for ureq.
    buffers: LazyBuffers,
    /// Ciphertext that has come lies from `begin` to `end`.
    incoming: Vec<u8>,
    begin: usize,
    end: usize,
    /// Ciphertext that is to be sent.
    outgoing: Vec<u8>,
    /// Plaintext for which the buffer had no room.
    plain: Vec<u8>,
    peer_has_closed: bool,
}

/// What rustls did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A record of the peer's became plaintext.
    Plain,
    /// What was to be sent is encrypted and sent.
    Sent,
    /// The handshake is over, and no whole record is at hand.
    Idle,
    /// Something else.
    Other,
    /// The peer will send nothing more.
    Closed,
}

impl<In: Transport> Tls<In> {
    /// Lets rustls do the next thing. Where it has nothing else to do, `amount` bytes of ureq's
    /// output are encrypted and sent. In a handshake it waits for the peer.
    fn step(&mut self, amount: usize, timeout: NextTimeout) -> Result<Step, Error> {
        let at_hand = &mut self.incoming[self.begin..self.end];
        let status = self.connection.process_tls_records(at_hand);
        let mut discard = status.discard;
        let mut wants_more = false;
        let step = match status.state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    let kept = give(&mut self.buffers, record.payload);
                    self.plain.extend_from_slice(&record.payload[kept..]);
                }
                Step::Plain
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, &mut self.outgoing)?;
                Step::Other
            }
            ConnectionState::TransmitTlsData(data) => {
                send(&mut self.line, &mut self.outgoing, timeout)?;
                data.done();
                Step::Other
            }
            ConnectionState::WriteTraffic(mut traffic) if amount > 0 => {
                let output = &self.buffers.output()[..amount];
                encrypt(&mut traffic, output, &mut self.outgoing)?;
                send(&mut self.line, &mut self.outgoing, timeout)?;
                Step::Sent
            }
            ConnectionState::WriteTraffic(_) => Step::Idle,
            ConnectionState::BlockedHandshake => {
                wants_more = true;
                Step::Other
            }
            ConnectionState::PeerClosed | ConnectionState::Closed => {
                self.peer_has_closed = true;
                Step::Closed
            }
            _ => return Err(Error::Tls("a state of the connection that is not known")),
        };
        self.begin += discard;
        if wants_more {
            self.fill(timeout)?;
        }
        Ok(step)
    }

    /// Takes more ciphertext from the line.
    ///
    /// # Errors
    /// There is no more, although the peer has not said so.
    fn fill(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        self.make_room()?;
        self.line.maybe_await_input(timeout)?;
        let input = self.line.buffers().input();
        let count = input.len().min(self.incoming.len() - self.end);
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.incoming[self.end..self.end + count].copy_from_slice(&input[..count]);
        self.line.buffers().input_consume(count);
        self.end += count;
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), Error> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > 0 && self.incoming.len() - self.end < INCOMING / 2 {
            self.incoming.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        if self.end == self.incoming.len() {
            if self.end >= MAX_INCOMING {
                return Err(Error::Tls("a message of the handshake that is too long"));
            }
            let longer = (2 * self.end).clamp(INCOMING, MAX_INCOMING);
            self.incoming.resize(longer, 0);
        }
        Ok(())
    }

    /// Whether a whole record more fits into what ureq reads from.
    fn has_room(&mut self) -> bool {
        self.buffers.input_append_buf().len() >= INCOMING / 2
    }
}

/// Puts as much plaintext as fits where ureq reads it; how much that is.
fn give(buffers: &mut LazyBuffers, plain: &[u8]) -> usize {
    let room = buffers.input_append_buf();
    let count = room.len().min(plain.len());
    room[..count].copy_from_slice(&plain[..count]);
    buffers.input_appended(count);
    count
}

/// Sends everything.
fn send(
    line: &mut impl Transport,
    outgoing: &mut Vec<u8>,
    timeout: NextTimeout,
) -> Result<(), Error> {
    let mut left = &outgoing[..];
    while !left.is_empty() {
        let output = line.buffers().output();
        let count = output.len().min(left.len());
        output[..count].copy_from_slice(&left[..count]);
        line.transmit_output(count, timeout)?;
        left = &left[count..];
    }
    outgoing.clear();
    Ok(())
}

fn encode<T>(data: &mut EncodeTlsData<'_, T>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    append(outgoing, OUTGOING, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => Some(size),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

fn encrypt<T>(
    traffic: &mut WriteTraffic<'_, T>,
    plain: &[u8],
    outgoing: &mut Vec<u8>,
) -> Result<(), Error> {
    append(outgoing, plain.len() + OUTGOING, |room| {
        traffic.encrypt(plain, room).map_err(|error| match error {
            EncryptError::InsufficientSize(size) => Some(size),
            EncryptError::EncryptExhausted => None,
        })
    })
}

/// Has `write` append to `outgoing`, with as much room as it asks for.
fn append(
    outgoing: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), Error> {
    let at = outgoing.len();
    outgoing.resize(at + room, 0);
    let written = write(&mut outgoing[at..]).or_else(|error| {
        let size = error.ok_or(Error::Tls("a connection that can send nothing more"))?;
        outgoing.resize(at + size.required_size, 0);
        write(&mut outgoing[at..]).map_err(|_| Error::Tls("a record that has no end"))
    });
    outgoing.truncate(at + written.as_ref().map_or(0, |written| *written));
    written.map(|_| ())
}

impl<In> fmt::Debug for Tls<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl<In: Transport> Transport for Tls<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        while amount > 0 && self.step(amount, timeout)? != Step::Sent {}
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        if !self.plain.is_empty() {
            let given = give(&mut self.buffers, &self.plain);
            self.plain.drain(..given);
            return Ok(given > 0);
        }
        let mut came = false;
        while !self.peer_has_closed {
            match self.step(0, timeout)? {
                Step::Plain if self.has_room() => came = true,
                Step::Plain => return Ok(true),
                Step::Idle if came => return Ok(true),
                Step::Idle => self.fill(timeout)?,
                Step::Other | Step::Sent | Step::Closed => {}
            }
        }
        Ok(came)
    }

    fn is_open(&mut self) -> bool {
        let is_quiet = !self.peer_has_closed && self.plain.is_empty() && self.begin == self.end;
        is_quiet && self.line.is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
