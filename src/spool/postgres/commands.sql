-- What operators ask of the relays, wherever they ask; since version 3.

CREATE TABLE commands (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    job text,                     -- the kind of the job, for lists; null: it is none
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz,          -- when its client last looked for the answers; null: nobody waits for them
    stopped boolean NOT NULL DEFAULT false
);

-- A command is done for one shard after the other, by the owner of each.
CREATE TABLE command_steps (
    command bigint NOT NULL REFERENCES commands ON DELETE CASCADE,
    step integer NOT NULL,
    shard smallint NOT NULL REFERENCES shards ON DELETE CASCADE,
    request text NOT NULL,        -- JSON
    total bigint NOT NULL,        -- how many dead letters or deliveries it is about
    done bigint NOT NULL DEFAULT 0,
    epoch bigint,                 -- of the owner that has begun; null: none has
    answer text,                  -- JSON; null: it has not ended
    PRIMARY KEY (command, step)
);
