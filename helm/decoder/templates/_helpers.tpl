{{/* Name of the release's objects. */}}
{{- define "decoder.fullname" -}}
{{- ternary .Release.Name (printf "%s-decoder" .Release.Name) (contains "decoder" .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of a selector: they never change during the life of a release. Takes (dict "root" $ "component" "worker"). */}}
{{- define "decoder.selector" -}}
app.kubernetes.io/name: decoder
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "decoder.labels" -}}
{{ include "decoder.selector" . }}
app.kubernetes.io/part-of: decoder
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "decoder-%s" .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}

{{- define "decoder.monitoringLabels" -}}
{{ include "decoder.labels" . }}
{{- with .root.Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image by its digest, in a trial also by a tag, as validate.yaml checks. Takes .Values.image, or .Values.valkey.image. */}}
{{- define "decoder.reference" -}}
{{ .repository }}{{ with .digest }}@{{ . }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "decoder.image" -}}
{{ include "decoder.reference" .Values.image }}
{{- end }}

{{/* Name of the Secret that all components read, each its own keys. */}}
{{- define "decoder.secret" -}}
{{- if or .Values.secrets.external.enabled .Values.trial.enabled -}}
{{ include "decoder.fullname" . }}-secrets
{{- else -}}
{{ .Values.secrets.existingSecret }}
{{- end -}}
{{- end }}

{{/* Name of the Secret with the credentials for documents behind a login; empty without one. */}}
{{- define "decoder.credentials" -}}
{{- if .Values.credentials.remoteKey -}}
{{ include "decoder.fullname" . }}-credentials
{{- else -}}
{{ .Values.credentials.existingSecret }}
{{- end -}}
{{- end }}

{{/* Keys of that Secret which this release reads, separated by spaces. */}}
{{- define "decoder.secretKeys" -}}
deployer-redis-url worker-redis-url url-key
{{- if .Values.egressProxy.enabled }} egress-proxy{{ end }}
{{- if .Values.flower.enabled }} flower-redis-url flower-basic-auth{{ end }}
{{- if .Values.valkey.enabled }} users.acl{{ end }}
{{- if .Values.audit.trimSchedule }} auditor-redis-url{{ end }}
{{- if .Values.test.url }} producer-redis-url{{ end }}
{{- end }}

{{- define "decoder.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "decoder.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The common part of all pods. Takes (dict "root" $), with "account" for a pod that uses the Kubernetes API under that name. */}}
{{- define "decoder.pod" -}}
serviceAccountName: {{ .account | default (include "decoder.fullname" .root) }}
automountServiceAccountToken: {{ hasKey . "account" }}
enableServiceLinks: false
securityContext: {{- include "decoder.podSecurity" . | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
# A lookup cannot be interrupted, so short timeouts free its threads. Without search domains no name is queried twice.
dnsConfig:
  options:
    - {name: ndots, value: "1"}
    - {name: timeout, value: "1"}
    - {name: attempts, value: "1"}
{{- end }}

{{/* A value as the text of an environment variable: lists with commas, whole numbers without an exponent. */}}
{{- define "decoder.text" -}}
{{- if kindIs "slice" . -}}{{ join "," . }}
{{- else if kindIs "float64" . -}}{{ int64 . }}
{{- else -}}{{ . }}
{{- end -}}
{{- end }}

{{/* Variables and mounts for TLS to Redis. */}}
{{- define "decoder.redisTlsEnv" -}}
{{- with .Values.redis.tls }}
{{- if .existingSecret }}
- {name: DECODER_REDIS_CA_FILE, value: /etc/decoder/redis/ca.crt}
{{- if .clientCertificate }}
- {name: DECODER_REDIS_CERT_FILE, value: /etc/decoder/redis/tls.crt}
- {name: DECODER_REDIS_KEY_FILE, value: /etc/decoder/redis/tls.key}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "decoder.redisTlsMount" -}}
{{- if .Values.redis.tls.existingSecret }}
- {name: redis-tls, mountPath: /etc/decoder/redis, readOnly: true}
{{- end }}
{{- end }}

{{- define "decoder.redisTlsVolume" -}}
{{- with .Values.redis.tls.existingSecret }}
- name: redis-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* A folder for temporary files: in memory, small. */}}
{{- define "decoder.tmpVolume" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end }}
