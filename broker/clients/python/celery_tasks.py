"""What the worker of `test_celery` does. The broker is where AWS_ENDPOINT_URL says."""

import os

from celery import Celery
from kombu.utils.url import safequote

# Celery's own way to say it: the host of the broker's URL is the endpoint.
endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
app = Celery("pins", broker=f"sqs://{safequote('any')}:{safequote('any')}@{endpoint}")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1", "is_secure": False, "wait_time_seconds": 5, "visibility_timeout": 60,
    },
    task_acks_late=True,
    task_default_queue="celery",
    worker_hijack_root_logger=False,
)
FOLDER = os.environ.get("PINS_FOLDER", "")


@app.task
def knock_down(pins):
    with open(os.path.join(FOLDER, f"done-{pins}"), "w") as file:
        file.write("x" * pins)


@app.task(bind=True, max_retries=3)
def knock_down_at_the_second_try(self, name):
    marker = os.path.join(FOLDER, f"tried-{name}")
    if not os.path.exists(marker):
        open(marker, "w").close()
        raise self.retry(countdown=0)
    open(os.path.join(FOLDER, f"done-{name}"), "w").close()
