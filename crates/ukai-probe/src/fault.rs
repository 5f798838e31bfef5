//! What hyper, h2, rustls and the system say went wrong, in our classes.

use std::error::Error as StdError;
use std::io;

use ukai_core::observe::{ErrorClass, Failure, Stage};

use crate::escape::escape;
use crate::exchange::{HEAD_MAX, HEADERS_MAX};
use crate::handshake;

/// Why no answer came.
pub(crate) fn processing_failure(error: &hyper::Error) -> Failure {
    if let Some(failure) = root_io(error).and_then(handshake::late_failure) {
        return failure;
    }
    let (class, detail) = if error.is_parse_too_large() {
        (ErrorClass::TooLarge, head_too_large())
    } else if error.is_parse() {
        (ErrorClass::Protocol, format!("what answers on this port does not speak HTTP: {error}"))
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        (ErrorClass::Reset, "it closed the connection without answering the request".to_owned())
    } else if let Some(io) = root_io(error) {
        io_fault(io)
    } else if let Some(h2) = find::<h2::Error>(error) {
        h2_fault(h2)
    } else {
        (ErrorClass::Protocol, format!("its answer breaks the rules of HTTP: {error}"))
    };
    processing(class, escape(&detail))
}

fn io_fault(error: &io::Error) -> (ErrorClass, String) {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            (ErrorClass::Reset, "it closed the connection without answering the request".to_owned())
        }
        io::ErrorKind::TimedOut => (ErrorClass::Timeout, "it fell silent before it answered".to_owned()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            (ErrorClass::Unreachable, format!("the route to it broke: {error}"))
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => {
            (ErrorClass::Reset, "it reset the connection without answering the request".to_owned())
        }
        _ => (ErrorClass::Protocol, format!("the connection broke: {error}")),
    }
}

fn h2_fault(error: &h2::Error) -> (ErrorClass, String) {
    let reason = error.reason().map_or_else(|| error.to_string(), |reason| format!("{reason:?}"));
    let is_ours = error.is_library();
    if is_ours && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        (ErrorClass::TooLarge, head_too_large())
    } else if is_ours && error.is_reset() {
        // h2 refuses a head that is a little too large with the same reason as one that is malformed.
        let detail = format!("{}, or breaks the rules of HTTP/2: {error}", head_too_large());
        (ErrorClass::Protocol, detail)
    } else if error.is_remote() && error.is_go_away() {
        (ErrorClass::Reset, format!("it ended the HTTP/2 connection with GOAWAY {reason}"))
    } else if error.is_remote() && error.is_reset() {
        (ErrorClass::Reset, format!("it reset the HTTP/2 stream with {reason}"))
    } else {
        (ErrorClass::Protocol, format!("its answer breaks the rules of HTTP/2: {error}"))
    }
}

/// Whatever ends a body early is told as one class; the detail says how it ended.
pub(crate) fn transfer_failure(error: &hyper::Error, read: usize) -> Failure {
    let root = root_io(error);
    if let Some(failure) = root.and_then(handshake::late_failure) {
        return failure;
    }
    if error.is_parse_too_large() {
        return too_large("the trailers of its body are too large");
    }
    let is_cut = error.is_incomplete_message()
        || error.is_closed()
        || root.is_some_and(|io| io.kind() != io::ErrorKind::InvalidData && io.kind() != io::ErrorKind::InvalidInput)
        || find::<h2::Error>(error).is_some_and(|h2| h2.is_remote() || h2.is_io());
    if is_cut {
        let detail = match root {
            Some(io) if io.kind() == io::ErrorKind::ConnectionReset => "it reset the connection",
            _ => "its body ended",
        };
        return transfer(ErrorClass::CutOff, format!("{detail} after {read} bytes, before the body was whole"));
    }
    let cause = StdError::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    transfer(ErrorClass::Protocol, escape(&format!("its body breaks the rules of HTTP: {cause}")))
}

fn head_too_large() -> String {
    format!("the head of its answer is larger than {HEADERS_MAX} headers or {} KiB", HEAD_MAX / 1024)
}

/// The system's or the TLS layer's error beneath hyper's and h2's.
pub(crate) fn root_io(error: &hyper::Error) -> Option<&io::Error> {
    find::<io::Error>(error).or_else(|| find::<h2::Error>(error)?.get_io())
}

fn find<E: StdError + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = StdError::source(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

pub(crate) fn too_large(detail: &str) -> Failure {
    transfer(ErrorClass::TooLarge, detail.to_owned())
}

pub(crate) fn processing(class: ErrorClass, detail: String) -> Failure {
    Failure { stage: Stage::Processing, class, detail }
}

pub(crate) fn transfer(class: ErrorClass, detail: String) -> Failure {
    Failure { stage: Stage::Transfer, class, detail }
}
