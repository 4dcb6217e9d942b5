//! `tenpin-bench`: measures a broker, and tries to make it lose something.

fn main() {
    println!("{}", tenpin_benches::measure::machine());
}
