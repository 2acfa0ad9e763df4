//! Gives the shared library its SONAME, so that programs go on working with every 0.x library that keeps the interface.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpilot.so.0");
}
