"""Reads records of a Kafka topic with Confluent's deserializers and prints one JSON line a record: {"schema_id", "value"}.

`schema_id` is the id in front of the record, or null with --bare: records without a registry's prefix.
"""

import argparse
import base64
import datetime
import decimal
import importlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

import fastavro
import jsonschema
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import json_format

SECONDS = 100


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("format", choices=["avro", "json_schema", "protobuf"])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--registry", help="URL of Confluent's API")
    parser.add_argument("--schema", type=pathlib.Path, help="needed for protobuf, and without a registry")
    parser.add_argument("--message", default="Event", help="name of the Protobuf message, without its package")
    parser.add_argument("--bare", action="store_true")
    return parser.parse_args()


def protobuf_class(proto, message):
    """Compiles the file with protoc, which shares nothing with the relay's compiler."""
    out = tempfile.mkdtemp()
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto.parent}", f"--python_out={out}", proto.name]
    subprocess.run(command, check=True)
    sys.path.insert(0, out)
    return getattr(importlib.import_module(f"{proto.stem}_pb2"), message)


def deserializer(options):
    client = SchemaRegistryClient({"url": options.registry}) if options.registry else None
    text = options.schema.read_text() if options.schema else None
    if options.format == "protobuf":
        of_message = protobuf_class(options.schema, options.message)
        if options.bare:
            return lambda data, _: to_json(of_message.FromString(data))
        # Without a client: Apicurio answers text where this deserializer expects a serialized descriptor.
        confluent = ProtobufDeserializer(of_message, {"use.deprecated.format": False})
        return lambda data, context: to_json(confluent(data, context))
    if options.format == "avro":
        if options.bare:
            schema = fastavro.parse_schema(json.loads(text))
            return lambda data, _: fastavro.schemaless_reader(io.BytesIO(data), schema)
        return AvroDeserializer(client)
    if options.bare:
        schema = json.loads(text)

        def read(data, _):
            value = json.loads(data)
            jsonschema.validate(value, schema, cls=jsonschema.validators.validator_for(schema))
            return value

        return read
    return JSONDeserializer(text, schema_registry_client=client)


def to_json(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    raise TypeError(f"{type(value)} has no JSON")


def main():
    options = arguments()
    read = deserializer(options)
    context = SerializationContext(options.topic, MessageField.VALUE)
    consumer = Consumer({"bootstrap.servers": options.brokers, "group.id": "unused", "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(options.topic, timeout=SECONDS).topics[options.topic].partitions
    consumer.assign([TopicPartition(options.topic, partition, 0) for partition in partitions])
    for number in range(options.count):
        record = consumer.poll(SECONDS)
        if record is None:
            sys.exit(f"{number} of {options.count} records came within {SECONDS} s")
        if record.error():
            sys.exit(str(record.error()))
        data = record.value()
        schema_id = None if options.bare else int.from_bytes(data[1:5], "big")
        print(json.dumps({"schema_id": schema_id, "value": read(data, context)}, default=plain), flush=True)
    consumer.close()


main()
