#!/usr/bin/env bash
# The MLflow server, on PostgreSQL where POSTGRES_HOST is set, else on a SQLite file.
# The password comes from a file and goes to libpq: it is in no argument and in no URI.
# Where MLFLOW_AUTH_CONFIG_PATH is set, users need a password (compose.auth.yaml).
set -euo pipefail

files=${MLFLOW_FILES:-/artifacts}
if [[ -n "${POSTGRES_HOST:-}" ]]; then
  PGPASSWORD=$(< "${POSTGRES_PASSWORD_FILE:-/run/secrets/postgres_password}")
  export PGPASSWORD
  user=${POSTGRES_USER:-mlflow}
  store="postgresql+psycopg2://$user@$POSTGRES_HOST:${POSTGRES_PORT:-5432}/${POSTGRES_DB:-mlflow}"
else
  store="sqlite:///$files/mlflow.db"
fi

users=()
if [[ -n "${MLFLOW_AUTH_CONFIG_PATH:-}" ]]; then
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(< "${MLFLOW_FLASK_KEY_FILE:-/run/secrets/mlflow_flask_key}")
  export MLFLOW_FLASK_SERVER_SECRET_KEY
  users=(--app-name basic-auth)
fi

exec mlflow server "${users[@]}" \
  --host "${MLFLOW_HOST:-0.0.0.0}" \
  --port "${MLFLOW_PORT:-5000}" \
  --workers "${MLFLOW_WORKERS:-2}" \
  --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-mlflow:5000,localhost:5000,127.0.0.1:5000}" \
  --backend-store-uri "$store" \
  --serve-artifacts \
  --artifacts-destination "$files"
