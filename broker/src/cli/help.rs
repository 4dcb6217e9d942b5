//! What stands below the options in each command's help: examples, with `--help` also the environment and the
//! exit codes.

macro_rules! environment {
    () => {
        "

Environment:
  TENPIN_ADDRESS   address of the broker, where --address is not given

Exit codes:
  0   done
  1   something unexpected, such as standard output being closed
  2   the command line is wrong, or a file cannot be read
  10  no broker answers at the address, or not in time
  11  the broker refused it; it says why"
    };
}

/// Examples and notes as they stand with `-h`, and everything, as it stands with `--help`.
macro_rules! pages {
    ($($short:ident, $long:ident, $text:literal;)*) => {
        $(
            pub const $short: &str = $text;
            pub const $long: &str = concat!($text, environment!());
        )*
    };
}

/// For the commands about queues together.
pub const QUEUE: &str = concat!("Each has a help of its own: tenpin queue create --help", environment!());

pages! {
    SEND, SEND_LONG, "Examples:
  tenpin send orders 'a first order' 'a second one'
  tenpin send orders --file order.json
  seq 1 1000000 | tenpin send orders --lines
  tenpin send steps.fifo --group customer-17 'a step'
  tenpin send orders --attribute source=web --attribute items:Number=12 'twelve eggs'

With --json it prints a line with a message_id for each message once it is acknowledged.";

    RECEIVE, RECEIVE_LONG, "Examples:
  tenpin receive orders                     one message and its handle; it is hidden meanwhile
  tenpin receive orders --max 100 --delete
  tenpin receive orders --wait 20           waits for one to come
  tenpin receive orders --json | jq -r .body

What is not deleted comes back when its visibility timeout ends.";

    DELETE, DELETE_LONG, "Examples:
  tenpin delete orders HANDLE
  tenpin receive orders --json | jq -r .handle | xargs tenpin delete orders";

    HIDE, HIDE_LONG, "Examples:
  tenpin hide orders HANDLE --for 600       ten minutes more to work on it
  tenpin hide orders HANDLE --for 0         it is there for others at once";

    PEEK, PEEK_LONG, "Examples:
  tenpin peek orders
  tenpin peek orders --max 100 --json
  tenpin peek orders --state in-flight";

    STATS, STATS_LONG, "Examples:
  tenpin stats
  tenpin stats orders --json";

    CREATE, CREATE_LONG, "Attributes:
  VisibilityTimeout               seconds for which a received message is hidden, 0 to 43200 [default: 30]
  DelaySeconds                    seconds for which a sent message is held back, 0 to 900 [default: 0]
  ReceiveMessageWaitTimeSeconds   seconds for which a receive waits that does not say, 0 to 20 [default: 0]
  MessageRetentionPeriod          seconds for which messages are kept, 60 to 1209600 [default: 345600]
  MaximumMessageSize              bytes, 1024 to 1048576 [default: 1048576]
  RedrivePolicy                   where dead letters go: JSON with deadLetterTargetArn and maxReceiveCount
  RedriveAllowPolicy              whose dead letters come here: JSON
  Policy                          who may do what: JSON; kept and given back
  ContentBasedDeduplication       FIFO: true takes bodies for deduplication ids [default: false]
  DeduplicationScope              FIFO: queue or messageGroup [default: queue]
  FifoThroughputLimit             FIFO: perQueue or perMessageGroupId [default: perQueue]

Examples:
  tenpin queue create orders
  tenpin queue create orders VisibilityTimeout=60 MessageRetentionPeriod=86400 --tag team=billing
  tenpin queue create steps.fifo ContentBasedDeduplication=true

A queue of this name that has other attributes than those given is refused: change it with `tenpin queue set`.";

    LIST, LIST_LONG, "Examples:
  tenpin queue list
  tenpin queue list orders            those whose names begin with orders
  tenpin queue list --json | jq -r .name";

    SHOW, SHOW_LONG, "Examples:
  tenpin queue show orders
  tenpin queue show orders --json | jq .visible";

    SET, SET_LONG, "Examples:
  tenpin queue set orders VisibilityTimeout=120 DelaySeconds=5
  tenpin queue set orders 'RedrivePolicy={\"deadLetterTargetArn\":\"ARN\",\"maxReceiveCount\":3}'
  tenpin queue set orders RedrivePolicy=

The ARN of a queue is among what `tenpin queue show` prints; `tenpin queue create --help` lists the attributes.";

    TAG, TAG_LONG, "Examples:
  tenpin queue tag orders team=billing stage=test

`tenpin queue show` prints them.";

    UNTAG, UNTAG_LONG, "Examples:
  tenpin queue untag orders team stage";

    DELETE_QUEUE, DELETE_QUEUE_LONG, "Examples:
  tenpin queue delete orders";

    PURGE, PURGE_LONG, "Examples:
  tenpin queue purge orders";

    REDRIVE, REDRIVE_LONG, "Examples:
  tenpin queue redrive orders-dead                      each message back to where it came from
  tenpin queue redrive orders-dead --to orders --rate 100
  tenpin queue redrive orders-dead --detach
  tenpin queue redrive orders-dead --status
  tenpin queue redrive orders-dead --cancel

It waits until all are moved, with a bar on a terminal, unless it is told to --detach.";
}
