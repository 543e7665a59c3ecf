#!/usr/bin/env bash
# Makes sure that components can be built for wasm32-wasip2, and prints what selects the toolchain that can: nothing for the
# one in use, `+wasip2` for one made here.
#
# Where rustup reaches its server, `rustup target add` is all that is needed. Where it does not, Debian has all the pieces:
# its rustc with the matching source of the standard library builds the target's std once, in about a minute, and rustup
# links the result as the toolchain `wasip2`.
set -euo pipefail

target=wasm32-wasip2
name=wasip2
say() { printf '%s\n' "$*" >&2; }

has_target() { [ -d "$(rustc "$@" --print sysroot)/lib/rustlib/$target/lib" ] && ls "$(rustc "$@" --print sysroot)/lib/rustlib/$target/lib"/libstd-*.rlib >/dev/null 2>&1; }

if has_target; then exit 0; fi
if has_target "+$name" 2>/dev/null; then echo "+$name"; exit 0; fi
if timeout 60 rustup target add "$target" >&2 2>/dev/null && has_target; then exit 0; fi

say "rustup cannot fetch $target here: building it from Debian's packages (about a minute)."
command -v apt-get >/dev/null || { say "error: this needs rustup's server or a Debian system (rustup target add $target)"; exit 1; }
root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { say "error: installing Debian packages needs root: apt-get install rustc-web rust-web-src wasi-libc"; exit 1; }
    root=sudo
fi
$root apt-get update -qq >&2
$root apt-get install -y -qq --no-install-recommends rustc-web rust-web-src wasi-libc >&2

host=$(rustc -vV | sed -n 's/^host: //p')
home=${CARGO_HOME:-$HOME/.cargo}/wasip2-sysroot
# rust-lld and wasm-component-ld come with rustup's own rustc.
bundled=$(rustc --print sysroot)/lib/rustlib/$host/bin
lib=$home/lib/rustlib
rm -rf "$home"
mkdir -p "$home/bin" "$lib/$target/lib/self-contained" "$lib/$host"
printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot %s "$@"\n' "$home" >"$home/bin/rustc"
chmod +x "$home/bin/rustc"
ln -s "/usr/lib/rustlib/$host/lib" "$lib/$host/lib"
ln -s "$bundled" "$lib/$host/bin"
ln -s /usr/lib/rustlib/src "$lib/src"
cp /usr/lib/wasm32-wasi/libc.a /usr/lib/wasm32-wasi/crt1-command.o /usr/lib/wasm32-wasi/crt1-reactor.o "$lib/$target/lib/self-contained/"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo new --quiet --vcs none --lib --name stdseed "$work/std" >&2
(
    cd "$work/std"
    RUSTC=$home/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$work/target \
        cargo build --quiet --release -Z build-std=std,panic_abort --target "$target" >&2
)
cp "$work/target/$target/release/deps/"*.rlib "$lib/$target/lib/"
rm -f "$lib/$target/lib/"libstdseed*
rustup toolchain link "$name" "$home" >&2
has_target "+$name" || { say "error: the toolchain $name was built but has no $target"; exit 1; }
echo "+$name"
