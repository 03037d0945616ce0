//! The package token: fetched when first needed, renewed once for all workers together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::board::{Code, Order, Problem, Secret};
use crate::upstream::{Client, Fault, Package, Place, Watch};

/// A token that is refused sooner than this after it was fetched is not renewed at once, but for
/// the first few times: a link is never resolved in a tight loop.
const YOUNGEST_RENEWAL: Duration = Duration::from_secs(5);
const FREE_RENEWALS: u64 = 3;

/// What the link led to, and the token of the moment.
#[derive(Default)]
pub struct Session {
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    package: Option<Arc<Package>>,
    fetched: Option<Instant>,
    generation: u64,
}

/// Why a call with the token came to nothing.
pub enum SessionFault {
    /// The link itself is refused: nothing of the download can go on.
    Link(Problem),
    /// The call failed for a reason of its own.
    Call(Fault),
}

impl Session {
    /// Starts with what POST has read already, if it has.
    pub fn new(package: Option<Package>) -> Session {
        let fetched = package.as_ref().map(|_| Instant::now());
        Session {
            current: Mutex::new(Current {
                package: package.map(Arc::new),
                fetched,
                generation: 0,
            }),
        }
    }

    /// The package's identifier and name; reads the link where that was not done yet.
    ///
    /// # Errors
    /// See [`SessionFault`].
    pub fn package(
        &self,
        client: &Client,
        order: &Order,
        watch: &Watch,
    ) -> Result<Arc<Package>, SessionFault> {
        Ok(self.token(client, order, watch)?.0)
    }

    /// Makes a call with the token; where it is refused, renews the token and makes it once more.
    ///
    /// # Errors
    /// See [`SessionFault`].
    pub fn call<T>(
        &self,
        client: &Client,
        order: &Order,
        watch: &Watch,
        mut call: impl FnMut(&Place<'_>) -> Result<T, Fault>,
    ) -> Result<T, SessionFault> {
        let mut renewed = false;
        loop {
            let (package, generation) = self.token(client, order, watch)?;
            let none = Secret::new("");
            let token = package.token.as_ref().unwrap_or(&none);
            let place = Place {
                api: &order.link.api,
                package_id: &package.package_id,
                token,
            };
            match call(&place) {
                Err(Fault::Unauthorized) if !renewed => {
                    self.renew(generation, client, order, watch)?;
                    renewed = true;
                }
                result => return result.map_err(SessionFault::Call),
            }
        }
    }

    fn token(
        &self,
        client: &Client,
        order: &Order,
        watch: &Watch,
    ) -> Result<(Arc<Package>, u64), SessionFault> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(package) = &current.package {
            return Ok((package.clone(), current.generation));
        }
        let package = current.resolve(client, order, watch)?;
        Ok((package, current.generation))
    }

    /// Replaces the token of `generation`, unless another worker has.
    fn renew(
        &self,
        generation: u64,
        client: &Client,
        order: &Order,
        watch: &Watch,
    ) -> Result<(), SessionFault> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.generation != generation {
            return Ok(());
        }
        let young = current
            .fetched
            .is_some_and(|at| at.elapsed() < YOUNGEST_RENEWAL);
        if young && generation > FREE_RENEWALS {
            return Err(SessionFault::Call(Fault::Transient {
                message: "the server refuses the token that it has just given".into(),
                retry_after: Some(YOUNGEST_RENEWAL),
            }));
        }
        current.resolve(client, order, watch).map(drop)
    }
}

impl Current {
    fn resolve(
        &mut self,
        client: &Client,
        order: &Order,
        watch: &Watch,
    ) -> Result<Arc<Package>, SessionFault> {
        let package = client
            .resolve(&order.link, order.password.as_ref(), watch)
            .map_err(|fault| link_fault(fault, order.password.as_ref()))?;
        let package = Arc::new(package);
        self.package = Some(package.clone());
        self.fetched = Some(Instant::now());
        self.generation += 1;
        Ok(package)
    }
}

fn link_fault(fault: Fault, password: Option<&Secret>) -> SessionFault {
    let (code, message) = match fault {
        Fault::Unauthorized if password.is_some() => (
            Code::LinkPasswordWrong,
            "the link no longer accepts its password; delete this download and add it again with the right one",
        ),
        Fault::Unauthorized => (
            Code::LinkPasswordRequired,
            "the link now wants a password; delete this download and add it again with one",
        ),
        Fault::NotFound => (
            Code::LinkNotFound,
            "the link does not exist any more; ask the sender for a new one",
        ),
        Fault::Gone => (
            Code::LinkExpired,
            "the link has expired or was deleted; ask the sender for a new one",
        ),
        other => return SessionFault::Call(other),
    };
    SessionFault::Link(Problem {
        code,
        message: message.into(),
        recoverable: false,
        retry_at: None,
    })
}
