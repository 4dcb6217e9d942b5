//! A broker inside a test: started for it, on a free port, in memory, and gone with it.
//!
//! `cargo test --example embedded_broker -p tenpin-client` runs the test below, and
//! `cargo run --example embedded_broker -p tenpin-client` the same without a test around it. A test of your own
//! needs `tenpin-broker` among its dev-dependencies.

use tenpin_broker::embedded::Broker;
use tenpin_client::{Client, Queue, Result};

/// What is to be tested: takes orders, and gives how many eggs they come to.
async fn count_eggs(orders: &Queue) -> Result<u32> {
    let mut eggs = 0;
    for order in orders.receive().await? {
        eggs += order.text().unwrap_or_default().parse::<u32>().unwrap_or_default();
        orders.delete(&order).await?;
    }
    Ok(eggs)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    two_orders_make_a_dozen().await;
}

#[cfg(test)]
#[tokio::test]
async fn eggs_are_counted() {
    two_orders_make_a_dozen().await;
}

async fn two_orders_make_a_dozen() {
    let broker = Broker::in_memory().expect("a broker starts");
    let client = Client::connect(broker.address().to_string()).await.expect("it answers");
    let orders = client.create_queue("orders").await.expect("a new queue");

    for eggs in ["7", "5"] {
        orders.send(eggs).await.expect("it is stored");
    }
    assert_eq!(count_eggs(&orders).await.expect("they are received"), 12);
    assert_eq!(orders.stats().await.expect("it counts").in_flight(), 0, "what was counted is deleted");
    println!("a dozen eggs, and nothing is left");
}
