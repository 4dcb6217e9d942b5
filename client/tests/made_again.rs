//! A queue that was deleted and made again under a program that still has it open.

use tenpin_broker::embedded::Broker;
use tenpin_client::Client;

#[tokio::test]
async fn the_counters_are_those_of_the_queue_that_has_the_name_now() {
    let broker = Broker::builder().minute_rules(false).start().expect("a broker starts");
    let client = Client::connect(broker.address().to_string()).await.expect("it answers");
    let before = client.create_queue("orders").await.expect("a new queue");
    client.queue("orders").await.expect("it is there").delete_queue().await.expect("it goes");
    let again = client.create_queue("orders").await.expect("a new queue");
    again.send("a first order").await.expect("it is stored");
    assert_eq!(before.stats().await.expect("its name is opened anew").visible(), 1);
}
