//! Builds the program anew when the web page was, or came: it is inside, and where there was none no file is watched.

fn main() {
    println!("cargo::rerun-if-changed=../dashboard/dist");
}
