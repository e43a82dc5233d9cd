{{- define "isthmus.fullname" -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "isthmus.selector" -}}
app.kubernetes.io/name: isthmus
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "isthmus.labels" -}}
{{ include "isthmus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* repository:tag, or repository@digest where there is one. */ -}}
{{- define "isthmus.image" -}}
{{- if .image.digest }}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" .image.digest) }}{{ fail (printf "the digest of %s must be sha256: and 64 hexadecimal digits" .image.repository) }}{{ end -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end }}
{{- end }}

{{- define "isthmus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "isthmus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Several gateways are several answers to "how much has this device used" without a database. */ -}}
{{- define "isthmus.check" -}}
{{- $scaled := ne .Values.autoscaling.kind "none" -}}
{{- if and (or (gt (int .Values.replicas) 1) $scaled) (not .Values.ledger.dsnSecretName) }}
{{- fail "more than one gateway needs PostgreSQL for quotas, idempotency and the ledger: set ledger.dsnSecretName" }}
{{- end }}
{{- if and (not .Values.tls.secretName) (not .Values.tls.plaintext) }}
{{- fail "tls.secretName is needed; where a mesh or a proxy ends TLS, set tls.plaintext=true" }}
{{- end }}
{{- if and .Values.tls.secretName .Values.tls.plaintext }}
{{- fail "tls.secretName and tls.plaintext exclude each other" }}
{{- end }}
{{- if not (or .Values.auth.jwksConfigMap .Values.auth.tokenSecretName .Values.tls.clientCaSecretName .Values.config.auth .Values.extraEnv) }}
{{- fail "nobody is asked who they are: set auth.jwksConfigMap, auth.tokenSecretName or tls.clientCaSecretName; config.auth.allow_anonymous=true lets everybody in" }}
{{- end }}
{{- if and (eq .Values.config.backend.kind "openai") (not .Values.config.backend.url) (not .Values.config.backend.urls) (not .Values.vllm.enabled) }}
{{- fail "config.backend.url names the upstream; or vllm.enabled=true makes one" }}
{{- end }}
{{- if and .Values.vllm.enabled (not .Values.vllm.args) }}
{{- fail "vllm.args names the model and how it is served: what `isthmus cloud serving --flags` prints" }}
{{- end }}
{{- end }}

{{- define "isthmus.gracePeriod" -}}
{{- /* The notice, the drain, and time to let go, settle and close. */ -}}
{{- add (int (.Values.config.drain_notice_s | default 0)) (int (.Values.config.drain_s | default 2)) 15 }}
{{- end }}
