//! What a translation costs in memory: a text goes from the upstream's bytes into the client's without an allocation of its
//! own, and an image in a request is copied once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use keystorm::{
    sse::Decoder,
    translate::{
        request::prepare,
        response::{Kind, Shape},
        stream::ChatStream,
        tools::Names,
    },
};

#[test]
fn an_event_of_text_takes_two_allocations_at_most() {
    let event = concat!(
        r#"data: {"candidates": [{"content": {"parts": [{"text": "Some \"words\" of a text.\n"}],"role": "model"},"index": 0}],"#,
        r#""usageMetadata": {"promptTokenCount": 8,"candidatesTokenCount": 31,"totalTokenCount": 39,"#,
        r#""promptTokensDetails": [{"modality": "TEXT","tokenCount": 8}]},"modelVersion": "gemini-2.5-flash","responseId": "x"}"#,
        "\r\n\r\n"
    );
    let whole = allocations(event.len(), event);
    assert!(whole <= 2 * EVENTS + 40, "{whole} for {EVENTS} events");
    // Cut anywhere: what is held is held in a buffer that stays.
    let cut = allocations(100, event);
    assert!(cut <= 2 * EVENTS + 40, "{cut} for {EVENTS} events in pieces");
}

#[test]
fn an_image_is_not_copied_on_its_way_through() {
    let image = "A".repeat(1 << 20);
    let event = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"inlineData\":{{\"mimeType\":\"image/png\",\"data\":\"{image}\"}}}}]}}}}]}}\n\n"
    );
    let mut out = Vec::with_capacity(2 * event.len());
    let mut stream = stream();
    let mut decoder = Decoder::new(1 << 22);
    // A stream's first line is held, whatever it is.
    decoder.push(b":\n", |_| {}).unwrap();
    let before = BYTES.get();
    decoder
        .push(event.as_bytes(), |data| stream.push(data, &mut out).unwrap())
        .unwrap();
    let taken = BYTES.get() - before;
    assert!(out.len() > image.len());
    assert!(taken < 10_000, "{taken} bytes were allocated beside the answer's own");
}

#[test]
fn an_image_in_a_request_is_copied_once() {
    let image = "QUJD".repeat(5 << 18);
    let request = format!(
        r#"{{"model":"gemini-3-flash","messages":[{{"role":"user","content":[{{"type":"text","text":"What is it?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
    );
    let before = BYTES.get();
    let prepared = prepare(request.as_bytes(), "gemini-3-flash", &|_| None).unwrap();
    let read = BYTES.get() - before;
    let body = prepared.body();
    let written = BYTES.get() - before - read;
    assert!(body.len() > image.len());
    assert!(read < 10_000, "{read} bytes were allocated to read it");
    assert!(
        written < request.len() + 10_000,
        "{written} bytes were allocated to write {}",
        request.len()
    );
}

/// Allocations for a stream of so many events that comes in pieces of this length.
fn allocations(piece: usize, event: &str) -> usize {
    let upstream = event.repeat(EVENTS);
    let mut out = Vec::with_capacity(4096);
    let mut stream = stream();
    let mut decoder = Decoder::new(1 << 16);
    let before = COUNT.get();
    for piece in upstream.as_bytes().chunks(piece) {
        out.clear();
        decoder
            .push(piece, |data| stream.push(data, &mut out).unwrap())
            .unwrap();
    }
    COUNT.get() - before
}

fn stream() -> ChatStream {
    let shape = Shape {
        id: "chatcmpl-1",
        created: 1_790_000_000,
        model: "gemini-2.5-flash",
        names: &Names::default(),
        seed: 1,
        kind: Kind::Chat,
        service_tier: None,
        pcm: false,
        is_last: false,
    };
    ChatStream::new(&shape, 0, true)
}

const EVENTS: usize = 1000;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[allow(unsafe_code, reason = "there is no other way to count allocations")]
// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + size.saturating_sub(layout.size()));
        unsafe { System.realloc(pointer, layout, size) }
    }
}
