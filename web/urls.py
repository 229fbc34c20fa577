"""The pages for people. All of them are for who may use the admin."""

from django.contrib import admin
from django.urls import path, re_path

from web.chat_page import chat_page
from web.clean_page import clean_page
from web.home_page import home_live, home_page
from web.jobs_page import act_on_job, jobs_page
from web.parts import part_view
from web.settings_page import diagnostics, settings_live, settings_page

_JOB_ACTION = r"^jobs/(?P<pk>[0-9]{1,18})/(?P<action>cancel|retry|repair|undo)$"

urlpatterns = [
    path("", admin.site.admin_view(home_page), name="home"),
    path("home/live", part_view(home_live), name="home-live"),
    path("chat", admin.site.admin_view(chat_page), name="chat-page"),
    path("jobs", admin.site.admin_view(jobs_page), name="jobs-page"),
    re_path(_JOB_ACTION, admin.site.admin_view(act_on_job), name="job-act"),
    path("settings", admin.site.admin_view(settings_page), name="settings-page"),
    path("settings/live", part_view(settings_live), name="settings-live"),
    path("settings/diagnostics", part_view(diagnostics), name="diagnostics"),
    path("settings/clean", admin.site.admin_view(clean_page), name="clean-page"),
]
