# What the image rabbitmq does, with the server of the host, whose /usr is mounted.
set -eu
export HOME=/var/lib/rabbitmq RABBITMQ_MNESIA_BASE=/var/lib/rabbitmq/mnesia
export RABBITMQ_NODENAME="hpo-steer-$NODE_PORT@localhost" RABBITMQ_NODE_PORT="$NODE_PORT" RABBITMQ_DIST_PORT="$DIST_PORT"
export ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none"
export RABBITMQ_LOG_BASE=/tmp/log RABBITMQ_PID_FILE=/tmp/pid RABBITMQ_ENABLED_PLUGINS_FILE=/tmp/plugins
export RABBITMQ_CONFIG_FILE=/tmp/rabbitmq
echo '[].' >/tmp/plugins
cat >/tmp/rabbitmq.conf <<END
loopback_users = none
default_user = $RABBITMQ_DEFAULT_USER
default_pass = $RABBITMQ_DEFAULT_PASS
END
exec /usr/lib/rabbitmq/bin/rabbitmq-server
