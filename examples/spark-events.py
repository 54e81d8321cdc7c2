# Shows the records of kafka-avro.yaml as a table of Spark. `regards-relay schema avro > event.avsc` makes the schema.
import os

from pyspark.sql import SparkSession
from pyspark.sql.avro.functions import from_avro
from pyspark.sql.functions import expr

spark = SparkSession.builder.getOrCreate()
kafka = spark.read.format("kafka").option("kafka.bootstrap.servers", os.environ["KAFKA_BROKERS"])
records = kafka.option("subscribe", "regards.events").load()
datum = expr("substring(value, 6)")  # after the zero byte and the four bytes of the schema's id
events = records.select(from_avro(datum, open("event.avsc").read()).alias("event")).select("event.*")
events.select("tenant", "correlationId", "productId", "status").show()
