//! Owns the installed tree: programs, library, header, `pilot.pc`.

use crate::cargo::{Build, Outcome, PROGRAMS, root};
use argh::FromArgs;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Libraries of the system that the static library needs. Source: rustc --print native-static-libs, with `gcc_eh`, the form
/// of gcc's unwinder that can be linked into a static program.
const STATIC_LIBS: &str = "-lgcc_eh -lutil -lrt -lpthread -lm -ldl -lc";

/// build and install the programs, libpilot, its header and pilot.pc
#[derive(FromArgs)]
#[argh(subcommand, name = "install")]
pub(crate) struct Install {
    /// where it will be used (default: $PREFIX, else /usr/local)
    #[argh(option)]
    prefix: Option<PathBuf>,
    /// what stands before the prefix while it is put together, for packagers (default: $DESTDIR, else nothing)
    #[argh(option)]
    destdir: Option<PathBuf>,
    /// cargo's profile (default: dist)
    #[argh(option, default = "String::from(\"dist\")")]
    profile: String,
    /// the portable cipher: needs no C compiler
    #[argh(switch)]
    portable: bool,
    /// cargo's features of programs and library beside the usual ones
    #[argh(option, default = "String::new()")]
    features: String,
    /// programs that need nothing of the system they run on; then there is no shared library
    #[argh(switch, long = "static")]
    fixed: bool,
    /// a quarter smaller, for devices, without the webhook: a panic ends the process at once, since nothing unwinds; needs rustup's
    /// component rust-src
    #[argh(switch)]
    small: bool,
}

pub(crate) fn run(task: &Install) -> Outcome {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let prefix = task.prefix.clone().or_else(|| variable("PREFIX")).unwrap_or_else(|| "/usr/local".into());
    if !prefix.is_absolute() {
        return Err(format!("the prefix {} is not absolute", prefix.display()));
    }
    let destdir = task.destdir.clone().or_else(|| variable("DESTDIR")).unwrap_or_default();
    let tree = match prefix.strip_prefix("/") {
        Ok(below) if !destdir.as_os_str().is_empty() => destdir.join(below),
        _ => prefix.clone(),
    };
    let (profile, features) = (&task.profile, &task.features);
    let (portable, fixed, small) = (task.portable, task.fixed, task.small);
    let built = Build { profile, portable, lean: false, features, fixed, small }.run()?;
    let version = env!("CARGO_PKG_VERSION");
    for program in PROGRAMS {
        put(&built.join(program), &tree.join("bin").join(program), 0o755)?;
    }
    let lib = tree.join("lib");
    if !task.fixed {
        let real = format!("libpilot.so.{version}");
        put(&built.join("libpilot.so"), &lib.join(&real), 0o755)?;
        link(&real, &lib.join("libpilot.so.0"))?;
        link("libpilot.so.0", &lib.join("libpilot.so"))?;
    }
    put(&built.join("libpilot.a"), &lib.join("libpilot.a"), 0o644)?;
    put(&root().join("ffi/include/pilot.h"), &tree.join("include/pilot.h"), 0o644)?;
    for text in ["LICENSE-MIT", "LICENSE-APACHE"] {
        put(&root().join(text), &tree.join("share/doc/pilot").join(text), 0o644)?;
    }
    let pc = format!(
        "prefix={}\nlibdir=${{prefix}}/lib\nincludedir=${{prefix}}/include\n\nName: pilot\n\
         Description: Pilot Protocol: encrypted streams, datagrams and messages between agents\nVersion: {version}\n\
         Libs: -L${{libdir}} -lpilot\nLibs.private: {STATIC_LIBS}\nCflags: -I${{includedir}}\n",
        prefix.display()
    );
    write(&lib.join("pkgconfig/pilot.pc"), pc.as_bytes(), 0o644)?;
    println!("installed into {}", tree.display());
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> Outcome {
    let bytes = fs::read(from).map_err(|e| format!("{}: {e}", from.display()))?;
    write(to, &bytes, mode)
}

/// Writes a new file and renames it, so that programs that run from the old file go on.
fn write(to: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let failed = |e: std::io::Error| format!("{}: {e}", to.display());
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let partial = to.with_extension("new");
    fs::write(&partial, bytes).map_err(failed)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(mode)).map_err(failed)?;
    fs::rename(&partial, to).map_err(failed)
}

fn link(to: &str, at: &Path) -> Outcome {
    let failed = |e: std::io::Error| format!("{}: {e}", at.display());
    match fs::remove_file(at) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    symlink(to, at).map_err(failed)
}
