//! An upstream in this process that speaks the four calls, counts everything, and fails on demand.
//!
//! By default it answers as it should. A hook per kind of request says otherwise, request by
//! request.

mod ledger;
mod line;
mod pace;
mod reply;
mod seat;
mod wire;
mod world;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::ServerConfig;

pub use ledger::{Kind, Ledger, Seen, Tally};
pub use reply::{Framing, Gate, Reply};
pub use world::{LINK_ID, SECRET, SECRET_ENCODED, TOKEN};

use super::package::{Entry, Package};
use line::Line;
use pace::Pace;
use world::World;

type Hook = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

struct Shared {
    /// `http://127.0.0.1:PORT`
    base: String,
    /// Where it speaks TLS.
    tls: Option<Arc<ServerConfig>>,
    world: Mutex<World>,
    ledger: Ledger,
    hooks: Mutex<HashMap<Kind, Hook>>,
    pace: Pace,
    /// Requests for bytes that it takes at once.
    most_at_once: Mutex<Option<usize>>,
    gates: Mutex<Vec<Gate>>,
    closed: AtomicBool,
    connections: Mutex<HashMap<u64, TcpStream>>,
    /// Whole TLS handshakes so far.
    handshakes: AtomicUsize,
}

impl Shared {
    fn reply_to(&self, seen: &Seen) -> Reply {
        let hook = self.hooks.lock().unwrap().get(&seen.kind).cloned();
        let reply = hook.map_or_else(Reply::serve, |hook| hook(seen));
        self.gates.lock().unwrap().extend(reply.gates().cloned());
        if self.closed.load(Ordering::SeqCst) {
            reply.gates().for_each(Gate::open);
        }
        reply
    }
}

pub struct Origin {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// A bound socket that refuses connections until it listens.
    down: Option<OwnedFd>,
}

impl Origin {
    /// An upstream with this package behind its link.
    pub fn new(package: Package) -> Origin {
        let mut origin = Origin::down(package);
        origin.come_up();
        origin
    }

    /// The same, but nobody listens yet: connections are refused.
    pub fn down(package: Package) -> Origin {
        Origin::bound(Ipv4Addr::LOCALHOST, package, None)
    }

    /// An upstream over TLS that calls itself by this name, which must lead to 127.0.0.1.
    pub fn secure(name: &str, package: Package, tls: Arc<ServerConfig>) -> Origin {
        let mut origin = Origin::bound(Ipv4Addr::LOCALHOST, package, Some((name, tls)));
        origin.come_up();
        origin
    }

    /// An upstream on another host than all others.
    pub fn elsewhere(package: Package) -> Origin {
        let mut origin = Origin::bound(Ipv4Addr::new(127, 0, 0, 2), package, None);
        origin.come_up();
        origin
    }

    fn bound(host: Ipv4Addr, package: Package, tls: Option<(&str, Arc<ServerConfig>)>) -> Origin {
        // Not for the agents that this process starts.
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrV4::new(host, 0)).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap();
        let address = SocketAddr::try_from(address).unwrap();
        let base = match &tls {
            None => format!("http://{address}"),
            Some((name, _)) => format!("https://{name}:{}", address.port()),
        };
        let shared = Shared {
            base,
            tls: tls.map(|(_, config)| config),
            world: Mutex::new(World::new(package)),
            ledger: Ledger::default(),
            hooks: Mutex::default(),
            pace: Pace::new(),
            most_at_once: Mutex::default(),
            gates: Mutex::default(),
            closed: AtomicBool::new(false),
            connections: Mutex::default(),
            handshakes: AtomicUsize::new(0),
        };
        Origin {
            shared: Arc::new(shared),
            address,
            down: Some(socket),
        }
    }

    /// Listens from now on.
    pub fn come_up(&mut self) {
        let socket = self.down.take().expect("an origin comes up once");
        rustix::net::listen(&socket, 128).unwrap();
        let listener = TcpListener::from(socket);
        let shared = self.shared.clone();
        thread::spawn(move || accept(&shared, &listener));
    }

    pub fn base(&self) -> &str {
        &self.shared.base
    }

    /// The API's base, as `--origin` wants it.
    pub fn api(&self) -> String {
        format!("{}/v1", self.shared.base)
    }

    /// The link with its secret.
    pub fn link(&self) -> String {
        format!("{}?secret={SECRET_ENCODED}", self.public_link())
    }

    /// The link as it may be shown.
    pub fn public_link(&self) -> String {
        format!("{}/{LINK_ID}", self.shared.base)
    }

    pub fn entry(&self, file: &str) -> Entry {
        self.shared.world.lock().unwrap().package.find(file).clone()
    }

    pub fn package(&self) -> Package {
        self.shared.world.lock().unwrap().package.clone()
    }

    /// Decides on every request of a kind from now on.
    pub fn on(&self, kind: Kind, hook: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.shared
            .hooks
            .lock()
            .unwrap()
            .insert(kind, Arc::new(hook));
    }

    pub fn always(&self, kind: Kind, reply: Reply) {
        self.on(kind, move |_| reply.clone());
    }

    /// The first `count` requests of a kind get this reply, the others the truth.
    pub fn first(&self, count: usize, kind: Kind, reply: Reply) {
        self.on(kind, move |seen| match seen.nth <= count {
            true => reply.clone(),
            false => Reply::serve(),
        });
    }

    /// The truth again.
    pub fn heal(&self, kind: Kind) {
        self.shared.hooks.lock().unwrap().remove(&kind);
    }

    /// All connections together get so many bytes per second from now on.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.pace.set(Some(bytes_per_second));
    }

    pub fn unthrottle(&self) {
        self.shared.pace.set(None);
    }

    /// Takes so many requests for bytes at once from now on, and refuses those beyond.
    pub fn take_at_once(&self, most: usize) {
        *self.shared.most_at_once.lock().unwrap() = Some(most);
    }

    /// When requests were refused because there were too many at once.
    pub fn refusals(&self) -> Vec<Instant> {
        self.ledger().read(|tally| tally.refusals.clone())
    }

    pub fn require_password(&self, password: &str) {
        self.world(|world| world.password = Some(password.into()));
    }

    /// The link answers with this status.
    pub fn refuse_link(&self, status: u16) {
        self.world(|world| world.link_refused = Some(status));
    }

    /// The token is void; who resolves the link again gets the next one.
    pub fn revoke_token(&self) {
        self.world(|world| world.token_serial += 1);
    }

    /// Hands out an address without being asked.
    pub fn issue_address(&self, file: &str) -> String {
        let mut world = self.shared.world.lock().unwrap();
        format!("{}{}", self.base(), world.issue(file))
    }

    /// Every address handed out so far answers 403.
    pub fn expire_addresses(&self) {
        self.world(|world| {
            let addresses = world.addresses.values_mut();
            addresses.for_each(|address| address.expired = true);
        });
    }

    /// Every address answers one request only.
    pub fn one_shot_addresses(&self) {
        self.world(|world| world.one_shot = true);
    }

    fn world(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.world.lock().unwrap());
    }

    /// Requests are counted from now on, and no longer kept.
    pub fn only_count(&self) {
        self.ledger().note(|tally| tally.only_counted = true);
    }

    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Whole TLS handshakes so far, of connections that have asked for something.
    pub fn handshakes(&self) -> usize {
        self.shared.handshakes.load(Ordering::SeqCst)
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.ledger().read(|tally| tally.count(kind))
    }

    pub fn requests(&self, kind: Kind) -> Vec<Seen> {
        self.ledger().read(|tally| {
            let requests = tally.requests.iter();
            requests.filter(|r| r.kind == kind).cloned().collect()
        })
    }

    /// How many requests there were about a file, for its address and its bytes.
    pub fn requests_about(&self, file: &str) -> usize {
        self.ledger()
            .read(|tally| tally.requests.iter().filter(|r| r.is_for(file)).count())
    }

    /// Bytes of content served.
    pub fn served(&self) -> u64 {
        self.ledger().read(ledger::Tally::total)
    }

    pub fn served_of(&self, file: &str) -> u64 {
        self.ledger()
            .read(|tally| tally.served.get(file).copied().unwrap_or(0))
    }

    pub fn peak(&self) -> usize {
        self.ledger().read(|tally| tally.peak)
    }

    pub fn await_requests(&self, kind: Kind, count: usize) {
        self.ledger()
            .wait(&format!("{count} of {kind:?}"), |tally| {
                tally.count(kind) >= count
            });
    }

    pub fn await_served(&self, bytes: u64) {
        self.ledger()
            .wait(&format!("{bytes} bytes served"), |tally| {
                tally.total() >= bytes
            });
    }

    /// Whether no request for bytes is being answered any more before the time is over.
    pub fn is_idle_within(&self, time: Duration) -> bool {
        self.ledger().wait_within(time, |tally| tally.active == 0)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared
            .gates
            .lock()
            .unwrap()
            .iter()
            .for_each(Gate::open);
        self.unthrottle();
        // Only wakes the accepting thread, which sees that it is over.
        let _ = TcpStream::connect(self.address);
        for connection in self.shared.connections.lock().unwrap().values() {
            // The agent may have closed it already.
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        // A small buffer, so that what was sent is nearly what was received.
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, 64 * 1024).unwrap();
        stream.set_nodelay(true).unwrap();
        let watched = stream.try_clone().unwrap();
        shared.connections.lock().unwrap().insert(number, watched);
        let shared = shared.clone();
        thread::spawn(move || {
            // The agent closing its side is its right.
            let _ = wire::converse(&shared, &Line::new(stream, shared.tls.as_ref()));
            shared.connections.lock().unwrap().remove(&number);
        });
    }
}
