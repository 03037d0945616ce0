//! ureq's agents: for each thread its own, with connections of their own; roots and TLS sessions
//! are common to all.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ureq::Agent;
use ureq::tls::Certificate;
use ureq::unversioned::transport::Connector;

use super::connection::{Dialer, INPUT_BUFFER, OUTPUT_BUFFER, Unresolved};
use super::dial::Outlet;
use super::direct::IdleSockets;
use super::hosts::Hosts;
use super::obs_fold::Unfolding;
use super::permits::Permits;
use super::pipeline::{Pipelining, PipeliningBlocklist};
use super::tls::TlsConnector;
use super::trust;
use crate::base::locks;

/// Response heads larger than this are refused, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Connections that a thread keeps alive: it talks to the API and to a storage server or two.
const KEPT_ALIVE: usize = 4;

/// Connections unused for so long are not used again. Servers close theirs after a minute or so.
const IDLE_AGE: Duration = Duration::from_secs(60);

/// One thread's agents, with the connections that it keeps alive, and what it has in common with
/// the other threads.
pub struct Agents {
    common: Arc<Common>,
    own: Mutex<Own>,
}

/// What all threads share.
struct Common {
    silence: Duration,
    given: Vec<Certificate<'static>>,
    /// Where calls that read a plain connection themselves leave it.
    parked: Arc<IdleSockets>,
    tls: Mutex<Tls>,
    /// Hosts whose certificate only the roots compiled in vouch for.
    bundled_hosts: Hosts,
    one_by_one: Arc<PipeliningBlocklist>,
    outlet: Arc<Outlet>,
    permits: Arc<Permits>,
}

/// Roots are some megabytes; each set is made when it is first needed, and forgotten when nobody
/// needs it.
#[derive(Default)]
struct Tls {
    /// Inside: None if there are no roots but those compiled in.
    local: Option<Option<TlsConnector>>,
    bundled: Option<TlsConnector>,
}

/// Each is made when it is first needed.
#[derive(Default)]
struct Own {
    plain: Option<Agent>,
    local: Option<Agent>,
    bundled: Option<Agent>,
}

impl Agents {
    /// `connections` is how many are kept that calls have read themselves.
    pub fn new(
        connections: usize,
        silence: Duration,
        given: Vec<Certificate<'static>>,
        one_by_one: PipeliningBlocklist,
        outlet: Outlet,
    ) -> Agents {
        Agents {
            common: Arc::new(Common {
                silence,
                given,
                parked: Arc::new(IdleSockets::new(connections, IDLE_AGE)),
                tls: Mutex::default(),
                bundled_hosts: Hosts::default(),
                one_by_one: Arc::new(one_by_one),
                outlet: Arc::new(outlet),
                permits: Arc::default(),
            }),
            own: Mutex::default(),
        }
    }

    /// Another, for another thread, with connections of its own.
    pub fn another(&self) -> Agents {
        Agents {
            common: self.common.clone(),
            own: Mutex::default(),
        }
    }

    /// Where calls that read a plain connection themselves leave it.
    pub fn parked(&self) -> &Arc<IdleSockets> {
        &self.common.parked
    }

    /// Hosts that are asked one thing at a time.
    pub fn one_by_one(&self) -> &Arc<PipeliningBlocklist> {
        &self.common.one_by_one
    }

    /// How many requests each host takes at once.
    pub fn permits(&self) -> &Arc<Permits> {
        &self.common.permits
    }

    /// So long without a byte is a timeout.
    pub fn silence(&self) -> Duration {
        self.common.silence
    }

    /// Closes the connections that nobody uses, those of other threads apart, and forgets the
    /// roots, which is some megabytes. Both come back with the next request; those under way go on.
    pub fn rest(&self) {
        let own = std::mem::take(&mut *self.own());
        let tls = std::mem::take(&mut *self.common.tls());
        // Closing may take a moment, and needs no lock.
        drop((own, tls));
        self.common.parked.close();
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        locks::lock(&self.own)
    }

    /// For http.
    pub fn plain(&self) -> Agent {
        let mut own = self.own();
        let plain = &mut own.plain;
        let make = || {
            self.common
                .agent(self.common.parked.clone(), TlsConnector::default())
        };
        plain.get_or_insert_with(make).clone()
    }

    /// For https, trusting what this machine trusts. None if that is nothing but the roots
    /// compiled in.
    pub fn local(&self) -> Option<Agent> {
        let mut own = self.own();
        if own.local.is_none() {
            own.local = Some(self.common.secure_agent(self.common.local_trust()?));
        }
        own.local.clone()
    }

    /// For https, trusting the roots compiled in.
    pub fn bundled(&self) -> Agent {
        let mut own = self.own();
        let bundled = &mut own.bundled;
        let make = || self.common.secure_agent(self.common.bundled_trust());
        bundled.get_or_insert_with(make).clone()
    }

    /// Hosts whose certificate only the roots compiled in vouch for. It only saves a handshake.
    pub fn bundled_hosts(&self) -> &Hosts {
        &self.common.bundled_hosts
    }
}

impl Common {
    fn tls(&self) -> MutexGuard<'_, Tls> {
        locks::lock(&self.tls)
    }

    fn local_trust(&self) -> Option<TlsConnector> {
        let mut tls = self.tls();
        let make = || trust::local(&self.given);
        tls.local.get_or_insert_with(make).clone()
    }

    fn bundled_trust(&self) -> TlsConnector {
        let mut tls = self.tls();
        tls.bundled.get_or_insert_with(trust::bundled).clone()
    }

    /// Nobody reads a TLS connection but rustls: none is lent, and so none is parked.
    fn secure_agent(&self, tls: TlsConnector) -> Agent {
        self.agent(Arc::new(IdleSockets::new(0, IDLE_AGE)), tls)
    }

    fn agent(&self, parked: Arc<IdleSockets>, tls: TlsConnector) -> Agent {
        let silence = self.silence;
        let dialer = Dialer {
            silence,
            parked,
            outlet: self.outlet.clone(),
            one_by_one: self.one_by_one.clone(),
        };
        agent(dialer, tls, self.one_by_one.clone())
    }
}

fn agent(dialer: Dialer, tls: TlsConnector, one_by_one: Arc<PipeliningBlocklist>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
        // Sizes and ranges are those of the stored bytes.
        .accept_encoding("identity")
        .max_response_header_size(MAX_HEAD)
        .input_buffer_size(INPUT_BUFFER)
        .output_buffer_size(OUTPUT_BUFFER)
        .max_idle_connections(KEPT_ALIVE)
        .max_idle_connections_per_host(KEPT_ALIVE)
        .max_idle_age(IDLE_AGE)
        .build();
    let connector = dialer
        .chain(tls)
        .chain(Pipelining(one_by_one))
        .chain(Unfolding);
    Agent::with_parts(config, connector, Unresolved)
}
