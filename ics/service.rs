// SPDX-License-Identifier: GPL-2.0

//! Services: a message is declared once, by `service!`, and never described again.

use crate::bytes::Bytes;
use crate::frame::Head;
use crate::ticket::Later;
use kernel::prelude::*;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::trace;

/// What a handler may wait for: only calls of a higher class. This, not time-outs, prevents distributed deadlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Process context and agents: a thread for each, may block without bound, interruptible.
    P = 0,
    /// Operations.
    L0 = 1,
    /// User memory.
    U = 2,
    /// Token acquire; origin and parent book-keeping.
    L1 = 3,
    /// Token revoke; activation.
    L2 = 4,
    /// Data.
    L3 = 5,
    /// Control, membership, signals: what waits for nobody.
    L4 = 6,
}

impl Class {
    /// Number of classes.
    pub const N: usize = Self::ALL.len();

    /// All of them, each at its number.
    pub const ALL: [Self; 7] = [
        Self::P,
        Self::L0,
        Self::U,
        Self::L1,
        Self::L2,
        Self::L3,
        Self::L4,
    ];

    /// Decodes a class.
    pub(crate) fn from_wire(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::P,
            1 => Self::L0,
            2 => Self::U,
            3 => Self::L1,
            4 => Self::L2,
            5 => Self::L3,
            6 => Self::L4,
            _ => return None,
        })
    }
}

/// Who called.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The node.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// How a handler ends a call when not with a reply.
#[derive(Clone, Copy, Debug)]
pub enum Status {
    /// Refused.
    Errno(Error),
    /// What the call is about is on that node.
    Moved(NodeId),
    /// Somebody will reply when this thread does other work. A post that ends so is done.
    Later(Later),
}

impl From<Error> for Status {
    fn from(e: Error) -> Self {
        Self::Errno(e)
    }
}

/// One message of a service.
pub trait Op {
    /// The service's number.
    const SERVICE: u16;
    /// The service's version.
    const VERSION: u16;
    /// The message's number in the service.
    const OP: u16;
    /// Its class.
    const CLASS: Class;
    /// Its name, for people.
    const NAME: &'static str;
    /// Failpoint of the caller, before the request is sent.
    const ASK: &'static str;
    /// Failpoint of the caller, when it has the reply.
    const ANSWERED: &'static str;
    /// Fixed part of the request.
    type Req: zerocopy::IntoBytes
        + zerocopy::FromBytes
        + zerocopy::Immutable
        + zerocopy::KnownLayout
        + zerocopy::Unaligned;
    /// Fixed part of the reply.
    type Rep: zerocopy::IntoBytes
        + zerocopy::FromBytes
        + zerocopy::Immutable
        + zerocopy::KnownLayout
        + zerocopy::Unaligned;
}

/// What names an op to another node: the constants of its [`Op`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpId {
    pub(crate) service: u16,
    pub(crate) version: u16,
    pub(crate) op: u16,
    pub(crate) class: Class,
}

impl OpId {
    /// What a request names; `None` for an unknown class.
    pub(crate) fn of_request(head: &Head) -> Option<Self> {
        Some(Self {
            service: head.service.get(),
            version: head.version.get(),
            op: head.op.get(),
            class: Class::from_wire(head.class)?,
        })
    }

    /// A request for it, as tracepoints show it.
    pub(crate) const fn traced(&self, xid: u64, bytes: usize) -> trace::Request {
        trace::Request {
            // CAST: the number that it has in frames.
            class: self.class as u8,
            service: self.service,
            op: self.op,
            xid,
            bytes,
        }
    }

    /// That of `O`.
    pub(crate) const fn of<O: Op>() -> Self {
        Self {
            service: O::SERVICE,
            version: O::VERSION,
            op: O::OP,
            class: O::CLASS,
        }
    }
}

/// What answers the calls of one service. `service!` implements it.
pub trait Service: Sync {
    /// The service's number.
    fn id(&self) -> u16;

    /// Its version: a request of another one is refused.
    fn version(&self) -> u16;

    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// Class of an op, `None` if there is no such op.
    fn class(&self, op: u16) -> Option<Class>;

    /// Number, name and class of each op.
    fn ops(&self) -> &'static [(u16, &'static str, Class)];

    /// Decodes `body` (fixed part, then tail), does it, and encodes the reply.
    ///
    /// # Errors
    /// What the handler refuses with; `EPROTO` for a torn body.
    fn handle(&self, from: Caller, op: u16, body: &[u8]) -> core::result::Result<Bytes, Status>;
}

/// Reply and its tail, or why not.
pub type Reply<O> = core::result::Result<(<O as Op>::Rep, KVVec<u8>), Status>;

/// The answer to one message. A server implements it for each message of its service.
pub trait Handle<O: Op>: Sync {
    /// Decode, then do: checks everything before it changes anything. Context: a thread of the op's class.
    ///
    /// # Errors
    /// As the op's declaration says.
    fn handle(&self, from: Caller, req: &O::Req, tail: &[u8]) -> Reply<O>;
}

#[doc(hidden)]
pub mod __private {
    pub use super::Caller;
    pub use super::Class;
    pub use super::Handle;
    pub use super::Op;
    pub use super::Service;
    pub use super::Status;
    pub use crate::bytes::Bytes;
    pub use kernel;
    pub use kernel::error::Result;
    pub use ssi::failpoint::hit;
    pub use zerocopy;
    pub use zerocopy_derive;

    use crate::frame::MAX_BODY;
    use kernel::prelude::*;

    /// The reply of an op: fixed part, then tail.
    ///
    /// # Errors
    /// `EMSGSIZE`: no frame is that long, so that this node is not answered so either; `ENOMEM`.
    pub fn encode<O: Op>(fixed: &O::Rep, tail: KVVec<u8>) -> Result<Bytes> {
        let bytes = fixed.as_bytes();
        let len = bytes.len() + tail.len();
        if len > MAX_BODY {
            return Err(too_long(O::NAME, len));
        }
        if bytes.is_empty() {
            return Ok(tail.into());
        }
        let mut out = Bytes::with_room(bytes, tail.len())?;
        out.extend(&tail)?;
        Ok(out)
    }

    #[cold]
    fn too_long(op: &str, len: usize) -> Error {
        kernel::pr_warn_once!("a reply of {len} bytes to {op} is too long, and refused\n");
        EMSGSIZE
    }

    /// Splits a body.
    pub fn decode<
        T: zerocopy::FromBytes + zerocopy::Immutable + zerocopy::KnownLayout + zerocopy::Unaligned,
    >(
        body: &[u8],
    ) -> core::result::Result<(&T, &[u8]), Status> {
        T::ref_from_prefix(body).map_err(|_| Status::Errno(EPROTO))
    }
}

/// Declares a service: its messages' numbers, classes, layouts, client types, server trait and dispatch.
///
/// The fields' types are wire types: little-endian integers and byte arrays. Each message has four failpoints,
/// `Service.Op.ask` and `.answered` at the caller, `.serve` and `.served` at the one who answers.
#[macro_export]
macro_rules! service {
    (
        $(#[$sdoc:meta])*
        service $service:ident { id: $id:literal, version: $version:literal }
        $(
            $(#[$odoc:meta])*
            op $num:literal $op:ident (class: $class:ident)
            { $($rf:ident : $rt:ty),* $(,)? } -> { $($pf:ident : $pt:ty),* $(,)? }
        )*
    ) => {
        $crate::service! { @names $(#[$sdoc])* $service $id $version
            $( $(#[$odoc])* $num $op $class { $($rf : $rt),* } { $($pf : $pt),* } )* }
    };
    (
        @names $(#[$sdoc:meta])* $service:ident $id:literal $version:literal
        $( $(#[$odoc:meta])* $num:literal $op:ident $class:ident
           { $($rf:ident : $rt:ty),* } { $($pf:ident : $pt:ty),* } )*
    ) => {
        ::kernel::macros::paste! {
            $(
                $(#[$odoc])*
                pub(crate) struct $op;

                #[doc = concat!("Request of [`", stringify!($op), "`].")]
                #[repr(C)]
                #[derive(Clone, Copy)]
                #[derive($crate::__private::zerocopy_derive::FromBytes, $crate::__private::zerocopy_derive::IntoBytes)]
                #[derive($crate::__private::zerocopy_derive::Immutable, $crate::__private::zerocopy_derive::KnownLayout)]
                #[derive($crate::__private::zerocopy_derive::Unaligned)]
                pub(crate) struct [<$op Req>] { $(#[allow(missing_docs)] pub(crate) $rf: $rt),* }

                #[doc = concat!("Reply of [`", stringify!($op), "`].")]
                #[repr(C)]
                #[derive(Clone, Copy)]
                #[derive($crate::__private::zerocopy_derive::FromBytes, $crate::__private::zerocopy_derive::IntoBytes)]
                #[derive($crate::__private::zerocopy_derive::Immutable, $crate::__private::zerocopy_derive::KnownLayout)]
                #[derive($crate::__private::zerocopy_derive::Unaligned)]
                pub(crate) struct [<$op Rep>] { $(#[allow(missing_docs)] pub(crate) $pf: $pt),* }

                impl $crate::__private::Op for $op {
                    const SERVICE: u16 = $id;
                    const VERSION: u16 = $version;
                    const OP: u16 = $num;
                    const CLASS: $crate::__private::Class = $crate::__private::Class::$class;
                    const NAME: &'static str = concat!(stringify!($service), ".", stringify!($op));
                    const ASK: &'static str = concat!(stringify!($service), ".", stringify!($op), ".ask");
                    const ANSWERED: &'static str =
                        concat!(stringify!($service), ".", stringify!($op), ".answered");
                    type Req = [<$op Req>];
                    type Rep = [<$op Rep>];
                }
            )*

            $(#[$sdoc])*
            ///
            /// Wraps what handles its messages.
            pub(crate) struct [<$service Service>]<S>(pub(crate) S);

            impl<S: $($crate::__private::Handle<$op> +)* Sync> $crate::__private::Service for [<$service Service>]<S> {
                fn id(&self) -> u16 {
                    $id
                }

                fn version(&self) -> u16 {
                    $version
                }

                fn name(&self) -> &'static str {
                    stringify!($service)
                }

                fn class(&self, op: u16) -> Option<$crate::__private::Class> {
                    match op {
                        $( $num => Some($crate::__private::Class::$class), )*
                        _ => None,
                    }
                }

                fn ops(&self) -> &'static [(u16, &'static str, $crate::__private::Class)] {
                    &[$( ($num, stringify!($op), $crate::__private::Class::$class) ),*]
                }

                fn handle(
                    &self,
                    from: $crate::__private::Caller,
                    op: u16,
                    body: &[u8],
                ) -> core::result::Result<$crate::__private::Bytes, $crate::__private::Status> {
                    match op {
                        $(
                            $num => {
                                $crate::__private::hit(concat!(stringify!($service), ".", stringify!($op), ".serve"))?;
                                let (req, tail) = $crate::__private::decode::<[<$op Req>]>(body)?;
                                let (rep, tail) =
                                    $crate::__private::Handle::<$op>::handle(&self.0, from, req, tail)?;
                                $crate::__private::hit(concat!(stringify!($service), ".", stringify!($op), ".served"))?;
                                Ok($crate::__private::encode::<$op>(&rep, tail)?)
                            }
                        )*
                        _ => Err($crate::__private::Status::Errno(::kernel::error::code::ENOSYS)),
                    }
                }
            }
        }
    };
}
